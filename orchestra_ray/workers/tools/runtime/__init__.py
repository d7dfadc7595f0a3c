"""The executor pool: its client, and what surrounds each tool in an executor."""
