"""Spend of a run: budget, accounts, ledger, their Ray actor, summaries and forecasts."""
