"""Accuracy against cost over all policies of a comparison, with intervals over its tasks.

The Pareto front, the hypervolume under it, and the own policy's cost at each other policy's
accuracy. A resample takes tasks with the episodes of every policy, which keeps differences on the
same task together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestra_ray.core.money import usd
from orchestra_ray.evaluation.episode_log import EvalEpisode
from orchestra_ray.evaluation.pareto import Tradeoff, equal_cost, hypervolume_share, pareto_front
from orchestra_ray.evaluation.significance import BOUNDS
from orchestra_ray.evaluation.summary import Interval, interval95

Points = Mapping[str, Tradeoff]  # by policy: dollars, and accuracy as a fraction


@dataclass(frozen=True, slots=True)
class Tradeoffs:
    """front: from the cheapest to the dearest, without bounds.

    hypervolume: the fraction that the front dominates of the box from zero to the dearest policy's
    cost and from 0 to 100% accuracy. equal_cost_usd: by policy, see `pareto.equal_cost`; its
    interval is over the resamples that have such a cost, and absent if they are less than half.
    """

    front: tuple[str, ...]
    hypervolume: float
    hypervolume_ci95: Interval
    equal_cost_usd: Mapping[str, float]
    equal_cost_usd_ci95: Mapping[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """Returns the object `tradeoffs` of `summary.json`."""
        intervals = {name: list(ends) for name, ends in self.equal_cost_usd_ci95.items()}
        return {
            "front": list(self.front),
            "hypervolume": self.hypervolume,
            "hypervolume_ci95": list(self.hypervolume_ci95),
            "equal_cost_usd": dict(self.equal_cost_usd),
            "equal_cost_usd_ci95": intervals,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Tradeoffs":
        """Reverses `to_json`."""
        low, high = values["hypervolume_ci95"]
        costs = values["equal_cost_usd_ci95"]
        return cls(
            front=tuple(values["front"]),
            hypervolume=values["hypervolume"],
            hypervolume_ci95=(low, high),
            equal_cost_usd=dict(values["equal_cost_usd"]),
            equal_cost_usd_ci95={name: (ends[0], ends[1]) for name, ends in costs.items()},
        )


def tradeoffs(
    by_policy: Mapping[str, Mapping[int, EvalEpisode]],
    numbers: Sequence[int],
    own: str,
    bootstrap: int,
    seed: int,
) -> Tradeoffs:
    """Returns the tradeoffs on the tasks `numbers`, for which every policy has an episode."""
    names = list(by_policy)
    episodes_M_N = [[by_policy[name][n] for n in numbers] for name in names]
    right_M_N = np.array([[float(one.correct) for one in row] for row in episodes_M_N])
    usd_M_N = np.array([[usd(one.price_nanousd) for one in row] for row in episodes_M_N])

    def points(picks_N: np.ndarray) -> Points:
        right_M, usd_M = right_M_N[:, picks_N].mean(axis=1), usd_M_N[:, picks_N].mean(axis=1)
        pairs = zip(usd_M.tolist(), right_M.tolist(), strict=True)
        return dict(zip(names, (Tradeoff(*pair) for pair in pairs), strict=True))

    whole = points(np.arange(len(numbers)))
    real = [name for name in names if name not in BOUNDS]
    corner = Tradeoff(max((whole[name].cost for name in real), default=0.0), 1.0)

    def volume(found: Points) -> float:
        return hypervolume_share([found[name] for name in real], corner)

    picks_B_N = np.random.default_rng(seed).integers(
        0, len(numbers), size=(bootstrap, len(numbers))
    )
    resampled = [points(picks_N) for picks_N in picks_B_N]
    volumes_B = np.array([volume(found) for found in resampled])
    costs = {name: equal_cost(whole, own, name) for name in names if name != own}
    known = {name: cost for name, cost in costs.items() if cost is not None}
    intervals = {name: _interval(resampled, own, name) for name in known}
    return Tradeoffs(
        front=tuple(real[i] for i in pareto_front([whole[name] for name in real])),
        hypervolume=volume(whole),
        hypervolume_ci95=interval95(volumes_B),
        equal_cost_usd=known,
        equal_cost_usd_ci95={name: ends for name, ends in intervals.items() if ends is not None},
    )


def _interval(resampled: Sequence[Points], own: str, name: str) -> Interval | None:
    costs = [equal_cost(points, own, name) for points in resampled]
    known = [cost for cost in costs if cost is not None]
    return interval95(np.array(known)) if 2 * len(known) >= len(costs) else None
