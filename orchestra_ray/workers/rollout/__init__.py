"""Rollout: chat rendering and parsing by token, the vLLM engine, the episode, the worker."""
