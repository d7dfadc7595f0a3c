"""Advantage estimators by name.

    preset        advantage of an episode                    the group is dropped if
    paper         (R - mean) / std                           std < 0.1
    released      (R - mean) / (std + 1e-6), within +-3,     std <= 0.1
                  then + 0.1 if that is 1 or more
    grpo          (R - mean) / (std + 1e-6)                  all rewards are equal
    dr_grpo       R - mean                                   all rewards are equal
    rloo          R - mean of the others                     all rewards are equal
    reinforce_pp  R - mean, whitened over the batch          all rewards are equal
    gdpo          R, whitened over the batch                 all rewards are equal

Mean and std are the group's; std is the sample standard deviation (n - 1). Sources: ToolOrchestra
(arXiv 2511.21689) sections 3.2 and 4.4, and its code at 67bb7c7; GRPO (2402.03300); Dr. GRPO
(2503.20783); RLOO (2402.14740); REINFORCE++ with a baseline (2501.03262); GDPO (2601.05242), whose
rewards are standardised already. Any estimator can be used with any combination.

Differences within rounding count as none (`orchestra_ray.workers.reward.rounding`), between
rewards and between a deviation and its bound.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from orchestra_ray.workers.reward.rounding import differs, spreads

MIN_STD = 0.1  # of the paper: groups of a smaller deviation are dropped
EPSILON = 1e-6
RELEASED_CLIP, BOOST, BOOST_FROM = 3.0, 0.1, 1.0


@dataclass(frozen=True, slots=True)
class Estimator:
    """scale: the divisor of R - mean, from the group's std and size.

    keep: whether a group of this std, above 0, is trained. centred: whether the mean is subtracted.
    finish: the last step, elementwise. whiten: over the batch.
    """

    scale: Callable[[float, int], float]
    keep: Callable[[float], bool] = lambda std: True
    centred: bool = True
    finish: Callable[[np.ndarray], np.ndarray] = lambda advantages: advantages
    whiten: bool = False


def _clip_and_boost(z: np.ndarray) -> np.ndarray:
    z = np.clip(z, -RELEASED_CLIP, RELEASED_CLIP)
    return np.where(z >= BOOST_FROM, z + BOOST, z)


def _one(std: float, size: int) -> float:
    return 1.0


ESTIMATORS: Mapping[str, Estimator] = {
    "paper": Estimator(lambda std, size: std, keep=lambda std: not differs(std, MIN_STD)),
    "released": Estimator(
        lambda std, size: std + EPSILON,
        keep=lambda std: bool(differs(MIN_STD, std)),
        finish=_clip_and_boost,
    ),
    "grpo": Estimator(lambda std, size: std + EPSILON),
    "dr_grpo": Estimator(_one),
    "rloo": Estimator(lambda std, size: (size - 1) / size),
    "reinforce_pp": Estimator(_one, whiten=True),
    "gdpo": Estimator(_one, centred=False, whiten=True),
}


@dataclass(frozen=True, slots=True)
class GroupStatistics:
    """The statistics of a group's rewards under an estimator, shared by all its turns."""

    estimator: Estimator
    centre: float
    scale: float
    keep: bool
    clip: float | None

    def advantages(self, rewards: np.ndarray) -> np.ndarray:
        """Returns the advantages of rewards of any shape; zeros if the group is dropped."""
        if not self.keep:
            return np.zeros_like(rewards)
        advantages = self.estimator.finish((rewards - self.centre) / self.scale)
        return advantages if self.estimator.whiten else clipped(advantages, self.clip)


def group_statistics(
    rewards_G: np.ndarray, preset: str, clip: float | None = None, size: float = 0.0
) -> GroupStatistics:
    """Returns a group's statistics. size: of the summands of the rewards, see `rounding`."""
    estimator = _named(preset)
    episodes = rewards_G.size
    if episodes < 2:
        raise ValueError(f"group_advantages: {episodes} reward; a group needs two or more")
    std = float(rewards_G.std(ddof=1))
    keep = spreads(rewards_G, size) and estimator.keep(std)
    centre = float(rewards_G.mean()) if estimator.centred else 0.0
    return GroupStatistics(estimator, centre, estimator.scale(std, episodes), keep, clip)


def group_advantages(
    rewards_G: np.ndarray, preset: str = "paper", clip: float | None = None
) -> tuple[np.ndarray, bool]:
    """Returns (advantages_G, keep). If the group is dropped, keep is False and they are zeros.

    clip: the largest absolute advantage; if the estimator whitens, `batch_advantages` clips.
    """
    rewards_G = np.asarray(rewards_G, dtype=np.float64)
    statistics = group_statistics(rewards_G, preset, clip)
    return statistics.advantages(rewards_G), statistics.keep


def batch_advantages(
    advantages_N: np.ndarray,
    preset: str = "paper",
    clip: float | None = None,
    tokens_N: np.ndarray | None = None,
) -> np.ndarray:
    """Returns (A - mean) / (std + 1e-6) over the trained batch if the estimator whitens.

    Otherwise returns the advantages unchanged. tokens_N: number of tokens of each advantage, so
    that the statistics are over tokens; None: each counts once. The result is zeros if the
    advantages do not differ or belong to at most one token.
    """
    advantages_N = np.asarray(advantages_N, dtype=np.float64)
    if not _named(preset).whiten or not advantages_N.size:
        return advantages_N
    counts_N = np.ones(advantages_N.size) if tokens_N is None else np.asarray(tokens_N, float)
    if counts_N.sum() <= 1 or not spreads(advantages_N[counts_N > 0]):
        return np.zeros_like(advantages_N)
    mean = np.average(advantages_N, weights=counts_N)
    variance = (counts_N * (advantages_N - mean) ** 2).sum() / (counts_N.sum() - 1)
    return clipped((advantages_N - mean) / (np.sqrt(variance) + EPSILON), clip)


def clipped(advantages: np.ndarray, clip: float | None) -> np.ndarray:
    return advantages if clip is None else np.clip(advantages, -clip, clip)


def _named(preset: str) -> Estimator:
    if preset not in ESTIMATORS:
        known = ", ".join(ESTIMATORS)
        raise ValueError(f"group_advantages: unknown preset {preset!r}; use one of {known}")
    return ESTIMATORS[preset]
