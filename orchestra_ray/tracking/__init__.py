"""A run's metrics, events, progress and W&B; secrets are redacted before anything is written."""
