"""The tiny policy of the quick start: its tokenizer, its model, and its supervised warm start.

It learns to read the prompt and to keep the format. Which tool to choose is random in the
demonstrations: that is left to reinforcement learning.
"""

from orchestra_ray.sft.make import make_policy

__all__ = ["make_policy"]
