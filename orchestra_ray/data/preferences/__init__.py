"""Making preferences: what users wish, how they say it, and the weights that mean it (SPEC 3.2)."""
