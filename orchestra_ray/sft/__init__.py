"""The tiny policy of the quick start: its tokenizer, its model, and its supervised warm start.

It learns to read the prompt and to keep the format. The choice of a tool is random in the
demonstrations, so that reinforcement learning has to find it.
"""

from orchestra_ray.sft.make import make_policy

__all__ = ["make_policy"]
