"""User preferences: intents, their phrasings, and the matching weights (paper, section 3.2)."""
