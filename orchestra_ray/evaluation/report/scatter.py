"""A chart of accuracy against cost: policies with intervals and labels, and their front."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestra_ray.evaluation.pareto import Tradeoff, pareto_front
from orchestra_ray.evaluation.report.labels import BOLD_CHAR_PX, elided, leader, place_labels
from orchestra_ray.evaluation.report.svg import (
    Box,
    Scale,
    Tick,
    axis_ticks,
    element,
    frame,
    linear_ticks,
    padded,
    picture,
    text,
    tooltip,
)
from orchestra_ray.tracking.units import short, trimmed

_LOG_FROM = 15.0  # ratio of the largest to the smallest cost from which the axis is logarithmic
_LABEL_SHARE = 0.4  # of the plot's width, at most, for a label
_ZERO_PX = 26.0  # room for costs of zero, left of a logarithmic axis


@dataclass(frozen=True, slots=True)
class Point:
    """One policy. Cost in the unit of the axis, accuracy and its interval in percent.

    `runs`: the points of its runs, if there are several. `bound`: not on the front, since it has
    knowledge that no policy has.
    """

    name: str
    cost: float
    accuracy: float
    low: float
    high: float
    class_: str
    runs: tuple[Tradeoff, ...] = ()
    bound: bool = False

    @property
    def tradeoff(self) -> Tradeoff:
        return Tradeoff(self.cost, self.accuracy)


def scatter(
    title: str, points: Sequence[Point], cost_name: str, width: float, height: float, class_: str
) -> str:
    """Returns accuracy over cost, with intervals of accuracy, labels, and the Pareto front.

    The first points get the best places for their labels and are drawn on top.
    """
    plot = Box(46.0, 24.0, width - 14.0, height - 44.0)
    seeds = [one for point in points for one in point.runs]
    ends = [end for p in points for end in (p.low, p.high, p.accuracy)]
    low, high = padded([*ends, *(one.accuracy for one in seeds)])
    up = Scale(max(low, -4.0), min(high, 104.0), plot.bottom, plot.top)
    along = _cost_scale([one.cost for one in (*points, *seeds)], plot)
    x_ticks = axis_ticks(along, 6)
    if along.log and min(one.cost for one in (*points, *seeds)) <= 0.0:
        x_ticks = [Tick(plot.left + _ZERO_PX / 3, "0"), *x_ticks]
    y_values = [value for value in linear_ticks(up.low, up.high, 6) if 0.0 <= value <= 100.0]
    anchors = [(_cost_at(p.cost, along, plot), up.at(p.accuracy)) for p in points]
    spans = [(up.at(p.high), up.at(p.low)) for p in points]
    marks = [Box(x - 8, y - 8, x + 8, y + 8) for x, y in anchors]
    marks += [
        Box(x - 5, top - 2, x + 5, bottom + 2)
        for (x, _), (top, bottom) in zip(anchors, spans, strict=True)
    ]
    stairs = _stairs(
        [(_cost_at(p.cost, along, plot), up.at(p.accuracy)) for p in front_of(points)], plot
    )
    marks += [_thin_box(*ends) for ends in zip(stairs, stairs[1:], strict=False)][1:]
    most = int((plot.right - plot.left) * _LABEL_SHARE / BOLD_CHAR_PX)
    labels = [elided(point.name, most) for point in points]
    boxes = place_labels(anchors, labels, marks, plot)
    lines = [_leader(anchor, box) for anchor, box in zip(anchors, boxes, strict=True)]
    dots = [_dot(*one) for one in zip(points, anchors, spans, strict=True)][::-1]
    names = [_name(*one) for one in zip(labels, anchors, boxes, strict=True)]
    titles = text("accuracy, %", 4, 13, "start", "tick") + text(
        cost_name, plot.right, height - 6, "end", "tick"
    )
    grid = frame(plot, x_ticks, [Tick(up.at(value), trimmed(value)) for value in y_values])
    runs = [
        element(
            "circle", cx=_cost_at(one.cost, along, plot), cy=up.at(one.accuracy), r=3,
            class_=f"run {point.class_}",
        )
        for point in points
        for one in point.runs
    ]  # fmt: skip
    parts = [grid, titles, _front(stairs, plot), *runs, *lines, *dots, *names]
    return picture(title, width, height, *parts, class_=class_)


def front_of(points: Sequence[Point]) -> list[Point]:
    """Returns the Pareto front of the points that are no bounds, from the cheapest."""
    real = [point for point in points if not point.bound]
    return [real[i] for i in pareto_front([point.tradeoff for point in real])]


def _stairs(front: Sequence[tuple[float, float]], plot: Box) -> list[tuple[float, float]]:
    """Returns the border of the dominated area, from the plot's bottom to its right."""
    if not front:
        return []
    corners = [(front[0][0], plot.bottom), front[0]]
    for (_, before), (x, y) in zip(front, front[1:], strict=False):
        corners += [(x, before), (x, y)]
    return [*corners, (plot.right, front[-1][1])]


def _front(stairs: Sequence[tuple[float, float]], plot: Box) -> str:
    if not stairs:
        return ""
    area = [*stairs, (plot.right, plot.bottom)]
    return element("polygon", points=_listed(area), class_="below") + element(
        "polyline", points=_listed(stairs[1:]), class_="front"
    )


def _listed(corners: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)


def _thin_box(one: tuple[float, float], other: tuple[float, float]) -> Box:
    xs, ys = sorted((one[0], other[0])), sorted((one[1], other[1]))
    return Box(xs[0] - 2, ys[0] - 2, xs[1] + 2, ys[1] + 2)


def _cost_scale(costs: Sequence[float], plot: Box) -> Scale:
    """Returns a logarithmic scale if the costs above zero span `_LOG_FROM` or more."""
    above = [cost for cost in costs if cost > 0.0]
    if not above or max(above) / min(above) < _LOG_FROM:
        low, high = padded(costs)
        return Scale(max(low, 0.0) if min(costs) >= 0.0 else low, high, plot.left, plot.right)
    room = (max(above) / min(above)) ** 0.08
    start = plot.left + (_ZERO_PX if len(above) < len(costs) else 0.0)
    return Scale(min(above) / room, max(above) * room, start, plot.right, log=True)


def _cost_at(cost: float, along: Scale, plot: Box) -> float:
    return plot.left + _ZERO_PX / 3 if along.log and cost <= 0.0 else along.at(cost)


def _leader(anchor: tuple[float, float], box: Box) -> str:
    end = leader(anchor, box)
    if end is None:
        return ""
    return element("line", class_="leader", x1=anchor[0], y1=anchor[1], x2=end[0], y2=end[1])


def _name(label: str, anchor: tuple[float, float], box: Box) -> str:
    """Aligns the label to the side of its box that is next to the point: fonts differ in width."""
    x, side = (box.left + box.right) / 2, "middle"
    if box.left >= anchor[0]:
        x, side = box.left, "start"
    elif box.right <= anchor[0]:
        x, side = box.right, "end"
    return text(label, x, box.bottom - 3, side, "name")


def _dot(point: Point, anchor: tuple[float, float], span: tuple[float, float]) -> str:
    x, y = anchor
    bar = {"class_": f"whisker {point.class_}"}
    whisker = element("line", x1=x, x2=x, y1=span[0], y2=span[1], **bar) + "".join(
        element("line", x1=x - 4, x2=x + 4, y1=end, y2=end, **bar) for end in span
    )
    interval = f"{point.accuracy:.1f}% [{point.low:.1f}, {point.high:.1f}]"
    note = tooltip(f"{point.name}: accuracy {interval}, cost {short(point.cost)}")
    return whisker + element("circle", note, cx=x, cy=y, r=6, class_=f"dot {point.class_}")
