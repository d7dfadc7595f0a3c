"""GRPO's advantages of a group, and the homogeneity filter (paper sections 3.2 and 4.4)."""

import numpy as np

MIN_STD = 0.1  # groups whose rewards spread less are dropped


def group_advantages(rewards_G: np.ndarray, preset: str = "paper") -> tuple[np.ndarray, bool]:
    """(advantages_G, keep): (R - mean) / std over the group, with the sample standard deviation.

    `keep` is False where the standard deviation is below 0.1; the advantages are then zeros.
    """
    if preset != "paper":
        raise ValueError(f"group_advantages: unknown preset {preset!r}; use 'paper'")
    rewards_G = np.asarray(rewards_G, dtype=np.float64)
    if rewards_G.size < 2:
        raise ValueError(f"group_advantages: {rewards_G.size} reward; a group needs two or more")
    std = rewards_G.std(ddof=1)
    if std < MIN_STD:
        return np.zeros_like(rewards_G), False
    return (rewards_G - rewards_G.mean()) / std, True
