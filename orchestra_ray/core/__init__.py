"""Records, money, states and failures that every role shares. Imports no Ray and no torch."""
