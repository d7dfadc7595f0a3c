"""Reinforcement learning of tool-calling orchestrators on Ray, vLLM and DeepSpeed."""
