"""Combinations: functions from a group's raw amounts to the rewards of its episodes, by column.

Every combination is a pure function of (features_G_K, preference_K, correct_G, minimise_K), see
`orchestra_ray.workers.reward.objectives.group_rewards`, and returns `Terms`.
"""

from collections.abc import Callable, Mapping

import numpy as np

from orchestra_ray.workers.reward.combinations.budgeted import budgeted, next_multiplier
from orchestra_ray.workers.reward.combinations.gdpo import gdpo
from orchestra_ray.workers.reward.combinations.paper import paper
from orchestra_ray.workers.reward.combinations.scalarised import scalarised
from orchestra_ray.workers.reward.combinations.terms import Terms
from orchestra_ray.workers.reward.combinations.toolorchestra_release import released

Combination = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Terms]

COMBINATIONS: Mapping[str, Combination] = {
    "paper": paper,
    "released": released,
    "gdpo": gdpo,
    "scalarised": scalarised,
    "budgeted": budgeted,
}

__all__ = ["COMBINATIONS", "Combination", "Terms", "next_multiplier"]
