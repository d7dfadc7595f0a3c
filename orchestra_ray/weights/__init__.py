"""How new weights reach the rollout workers: buckets of bytes, a board that holds the newest
version, and the vLLM weight transfer backend that reads it."""
