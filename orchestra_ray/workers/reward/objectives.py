"""A group's rewards, from raw amounts under a preference, by a named combination.

Features are raw amounts, one row per episode: calls of each tool, then the outcome, then amounts to
minimise (dollars, seconds). The formulas, with sources and units, are in
`orchestra_ray.workers.reward.combinations`, one module each.
"""

import numpy as np

from orchestra_ray.workers.reward.combinations import COMBINATIONS, Terms


def group_rewards(
    features_G_K: np.ndarray,
    preference_K: np.ndarray,
    correct_G: np.ndarray,
    minimise_K: np.ndarray,
    preset: str = "paper",
) -> np.ndarray:
    """Returns rewards_G, float64, of one group.

    features_G_K: raw amounts; the outcome is the last of the columns where more is better.
    preference_K: weights, in the unit stated by the combination. correct_G, minimise_K: bool.
    """
    return group_terms(features_G_K, preference_K, correct_G, minimise_K, preset).rewards_G


def group_terms(
    features_G_K: np.ndarray,
    preference_K: np.ndarray,
    correct_G: np.ndarray,
    minimise_K: np.ndarray,
    preset: str = "paper",
) -> Terms:
    """Returns the rewards by column; see `group_rewards`."""
    if preset not in COMBINATIONS:
        known = ", ".join(COMBINATIONS)
        raise ValueError(f"group_rewards: unknown preset {preset!r}; use one of {known}")
    return COMBINATIONS[preset](
        np.asarray(features_G_K, dtype=np.float64),
        np.asarray(preference_K, dtype=np.float64),
        np.asarray(correct_G, dtype=bool),
        np.asarray(minimise_K, dtype=bool),
    )
