"""Records, money, states and failures that all roles share. Imports neither Ray nor torch."""
