"""Accuracy against cost: the Pareto front, its hypervolume, and the cost of an accuracy.

Pure functions of at most some dozen policies. Costs share any one unit; accuracies are fractions or
percent. Less cost and more accuracy are better.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Tradeoff(NamedTuple):
    """The mean cost of a task under one policy, and its accuracy."""

    cost: float
    accuracy: float

    def dominates(self, other: "Tradeoff") -> bool:
        """Returns whether this point is no worse in both, and better in one."""
        no_worse = self.cost <= other.cost and self.accuracy >= other.accuracy
        return no_worse and self != other


def pareto_front(points: Sequence[Tradeoff]) -> list[int]:
    """Returns the indices of the points that no other dominates, from the cheapest to the dearest.

    Of equal points either all are on the front or none.
    """
    kept = [i for i, one in enumerate(points) if not any(p.dominates(one) for p in points)]
    return sorted(kept, key=lambda i: points[i])


def hypervolume(points: Sequence[Tradeoff], reference: Tradeoff) -> float:
    """Returns the area dominated by the points, up to the reference's cost, down to its accuracy.

    Zitzler and Thiele 1998, for two objectives. A point no better than the reference adds nothing.
    """
    area, best = 0.0, reference.accuracy
    inside = sorted(one for one in points if one.cost < reference.cost)
    for one in inside:  # from the cheapest: each adds the strip above the previous ones
        if one.accuracy > best:
            area += (reference.cost - one.cost) * (one.accuracy - best)
            best = one.accuracy
    return area


def hypervolume_share(points: Sequence[Tradeoff], corner: Tradeoff) -> float:
    """Returns the hypervolume as a fraction of the box from zero cost and accuracy to the corner.

    0 if the corner costs nothing.
    """
    box = corner.cost * corner.accuracy
    return hypervolume(points, Tradeoff(corner.cost, 0.0)) / box if box > 0.0 else 0.0


def cost_at_accuracy(points: Sequence[Tradeoff], accuracy: float) -> float | None:
    """Returns the least mean cost at which the points reach `accuracy`; None if none reaches it.

    Policies can be mixed: one of them on a random fraction of the tasks and another on the rest has
    the same mixture of their mean accuracies and of their mean costs. In two dimensions the best
    mixture of any number of policies is one of two (Carathéodory).
    """
    enough = [one for one in points if one.accuracy >= accuracy]
    too_little = [one for one in points if one.accuracy < accuracy]
    alone = [one.cost for one in enough]
    mixed = [_between(low, high, accuracy) for low in too_little for high in enough]
    return min([*alone, *mixed], default=None)


def equal_cost(points: Mapping[str, Tradeoff], own: str, name: str) -> float | None:
    """Returns the cost at which `own` has the accuracy of `name`, mixed with the cheapest policy if
    it is more accurate than needed. None if it does not reach it, or the cheapest alone does.
    """
    mine, low, wanted = points[own], points[cheapest_of(points)], points[name].accuracy
    if not all(math.isfinite(sum(point)) for point in (mine, low, points[name])):
        return None
    if low.accuracy >= wanted and low != mine:
        return None
    return cost_at_accuracy([mine, low], wanted)


def cheapest_of(points: Mapping[str, Tradeoff]) -> str:
    """Returns the cheapest policy; of equally cheap ones the most accurate."""
    return min(points, key=lambda name: (points[name].cost, -points[name].accuracy))


def _between(low: Tradeoff, high: Tradeoff, accuracy: float) -> float:
    share = (accuracy - low.accuracy) / (high.accuracy - low.accuracy)
    # Rounding must not move the cost out of the range of the two.
    mixture = math.fsum((low.cost * (1.0 - share), high.cost * share))
    return min(max(mixture, min(low.cost, high.cost)), max(low.cost, high.cost))
