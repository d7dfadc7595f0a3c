"""The page of one or several runs: tables, plots, training curves, calls."""
