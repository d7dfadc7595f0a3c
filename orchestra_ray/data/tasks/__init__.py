"""Where tasks come from, how they are checked, and the order in which they are drawn."""
