"""Metrics, events, progress and W&B of a run; secrets are redacted before they are written."""
