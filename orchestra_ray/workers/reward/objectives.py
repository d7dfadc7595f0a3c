"""A group's rewards, from raw amounts under a preference, by a named combination.

Features are raw amounts, one row an episode: calls of each tool, then the outcome, then what is
better small (dollars, seconds). `orchestra_ray.workers.reward.combinations` has the formulas, each
in a file of its own with its source and its units.
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
    """Rewards_G, float64, of one group.

    features_G_K: the raw amounts; the outcome is the last of the columns where more is better.
    preference_K: weights, whose unit the combination states. correct_G, minimise_K: bool.
    """
    return group_terms(features_G_K, preference_K, correct_G, minimise_K, preset).rewards_G


def group_terms(
    features_G_K: np.ndarray,
    preference_K: np.ndarray,
    correct_G: np.ndarray,
    minimise_K: np.ndarray,
    preset: str = "paper",
) -> Terms:
    """The same, column by column."""
    if preset not in COMBINATIONS:
        known = ", ".join(COMBINATIONS)
        raise ValueError(f"group_rewards: unknown preset {preset!r}; use one of {known}")
    return COMBINATIONS[preset](
        np.asarray(features_G_K, dtype=np.float64),
        np.asarray(preference_K, dtype=np.float64),
        np.asarray(correct_G, dtype=bool),
        np.asarray(minimise_K, dtype=bool),
    )
