"""Eq. 1 and 2 of the paper (section 3.2): a group's rewards under a preference.

Features are raw amounts, one row an episode; the group's own minimum and maximum give them scale.
"""

import numpy as np


def group_rewards(
    features_G_K: np.ndarray,
    preference_K: np.ndarray,
    correct_G: np.ndarray,
    minimise_K: np.ndarray,
    preset: str = "paper",
) -> np.ndarray:
    """Rewards_G, float64, of one group.

    features_G_K: calls of each tool, outcome, dollars, seconds; the raw amounts.
    preference_K: weights in [0, 1]. correct_G, minimise_K: bool.

    Each feature is scaled to [0, 1] over the group (Eq. 1), turned round where less is better, and
    0 where the whole group agrees. A wrong episode gets 0, a right one the weighted sum (Eq. 2).
    """
    if preset != "paper":
        raise ValueError(f"group_rewards: unknown preset {preset!r}; use 'paper'")
    features_G_K = np.asarray(features_G_K, dtype=np.float64)
    signed_G_K = np.where(minimise_K, -features_G_K, features_G_K)
    low_K, high_K = signed_G_K.min(axis=0), signed_G_K.max(axis=0)
    span_K = high_K - low_K
    scaled_G_K = (signed_G_K - low_K) / np.where(span_K > 0, span_K, 1.0)
    return np.where(correct_G, scaled_G_K @ np.asarray(preference_K, dtype=np.float64), 0.0)
