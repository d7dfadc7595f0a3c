"""Tools that need no service: calculator, sandboxed Python, user functions, recipes, simulation."""
