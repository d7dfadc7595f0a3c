"""Transfer of new weights to the rollout workers: buckets of bytes, a registry of the latest
version, and the vLLM weight transfer backend that reads it."""
