"""Rollout: token-level chat rendering and parsing, the vLLM engine, episodes and the worker."""
