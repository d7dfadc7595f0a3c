"""Accuracy bought with money: the Pareto front, its hypervolume, and the cost of an accuracy.

Pure functions of at most some dozen policies. Costs share one unit, whichever; accuracies are
shares or percent. Less cost and more accuracy are better.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Tradeoff(NamedTuple):
    """What one policy costs a task, and how often it is right."""

    cost: float
    accuracy: float

    def dominates(self, other: "Tradeoff") -> bool:
        """No worse in both, and better in one."""
        no_worse = self.cost <= other.cost and self.accuracy >= other.accuracy
        return no_worse and self != other


def pareto_front(points: Sequence[Tradeoff]) -> list[int]:
    """The indices of the points that no other dominates, from the cheapest to the dearest.

    Equal points are all on the front, or none of them.
    """
    kept = [i for i, one in enumerate(points) if not any(p.dominates(one) for p in points)]
    return sorted(kept, key=lambda i: points[i])


def hypervolume(points: Sequence[Tradeoff], reference: Tradeoff) -> float:
    """The area that the points dominate, up to the reference's cost and down to its accuracy.

    Zitzler and Thiele 1998, for two objectives. What is no better than the reference adds nothing.
    """
    area, best = 0.0, reference.accuracy
    inside = sorted(one for one in points if one.cost < reference.cost)
    for one in inside:  # from the cheapest: each adds the strip above those before it
        if one.accuracy > best:
            area += (reference.cost - one.cost) * (one.accuracy - best)
            best = one.accuracy
    return area


def hypervolume_share(points: Sequence[Tradeoff], corner: Tradeoff) -> float:
    """The hypervolume as a share of the box from no cost and no right answer to the corner.

    0 where the corner costs nothing.
    """
    box = corner.cost * corner.accuracy
    return hypervolume(points, Tradeoff(corner.cost, 0.0)) / box if box > 0.0 else 0.0


def cost_at_accuracy(points: Sequence[Tradeoff], accuracy: float) -> float | None:
    """The least mean cost at which the points reach `accuracy`; None where none does.

    Between two policies by mixing: whoever plays one on a share of the tasks, drawn at random, and
    the other on the rest, has the same mixture of their mean accuracies and of their mean costs.
    In two dimensions the best mixture of any number of policies is one of two (Carathéodory).
    """
    enough = [one for one in points if one.accuracy >= accuracy]
    too_little = [one for one in points if one.accuracy < accuracy]
    alone = [one.cost for one in enough]
    mixed = [_between(low, high, accuracy) for low in too_little for high in enough]
    return min([*alone, *mixed], default=None)


def equal_cost(points: Mapping[str, Tradeoff], own: str, name: str) -> float | None:
    """What the accuracy of `name` costs the policy `own`, mixed with the cheapest one where it is
    more accurate than needed; None where it does not get there, or is not needed for it.
    """
    mine, low, wanted = points[own], points[cheapest_of(points)], points[name].accuracy
    if not all(math.isfinite(sum(point)) for point in (mine, low, points[name])):
        return None
    if low.accuracy >= wanted and low != mine:
        return None
    return cost_at_accuracy([mine, low], wanted)


def cheapest_of(points: Mapping[str, Tradeoff]) -> str:
    """Of equally cheap policies the most accurate."""
    return min(points, key=lambda name: (points[name].cost, -points[name].accuracy))


def _between(low: Tradeoff, high: Tradeoff, accuracy: float) -> float:
    share = (accuracy - low.accuracy) / (high.accuracy - low.accuracy)
    # Rounding must not carry the mixture's cost out of the two.
    mixture = math.fsum((low.cost * (1.0 - share), high.cost * share))
    return min(max(mixture, min(low.cost, high.cost)), max(low.cost, high.cost))
