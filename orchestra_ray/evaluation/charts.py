"""The charts of a report: curves over steps, stacked phases, and accuracy against cost."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestra_ray.evaluation.labels import leader, place_labels
from orchestra_ray.evaluation.svg import (
    CHAR_PX,
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

MAX_DOTS = 120  # points of a curve; longer ones are shown as means of neighbours
_SMOOTHED_FROM = 12  # points; shorter curves are shown as they are
_LOG_FROM = 15.0  # ratio of the largest to the smallest cost that needs a logarithmic axis
_ZERO_PX = 26.0  # room for costs of zero, left of a logarithmic axis


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity over steps; NaN where a step has no value. `class_` gives the colour."""

    name: str
    values_N: np.ndarray
    class_: str


@dataclass(frozen=True, slots=True)
class Point:
    """One policy. Cost in the unit of the axis, accuracy and its interval in percent."""

    name: str
    cost: float
    accuracy: float
    low: float
    high: float
    class_: str


def curves(title: str, steps_N: np.ndarray, lines: Sequence[Curve]) -> str:
    """Lines over steps: thin as measured, thick as a mean over neighbouring steps."""
    width, height = 340.0, 190.0
    steps_N, lines = _thinned(steps_N, lines, MAX_DOTS)
    finite = np.concatenate([line.values_N[np.isfinite(line.values_N)] for line in lines])
    low, high = padded(finite.tolist())
    if finite.min() >= 0.0:
        low = max(low, 0.0)
    values = linear_ticks(low, high, 5)
    left = 14.0 + CHAR_PX * max(len(trimmed(value)) for value in values)
    plot = Box(left, 10.0, width - 12.0, height - 26.0)
    up = Scale(low, high, plot.bottom, plot.top)
    along = _step_scale(steps_N, plot)
    drawn = [_curve(line, steps_N, along, up) for line in lines]
    y_ticks = [Tick(up.at(value), trimmed(value)) for value in values]
    return picture(title, width, height, frame(plot, _step_ticks(along), y_ticks), *drawn)


def stacked(
    title: str, steps_N: np.ndarray, parts: Sequence[Curve], width: float, bars: int, class_: str
) -> str:
    """Bars over steps, one part on top of the other; a missing value counts as nothing."""
    height = 220.0
    steps_N, parts = _thinned(steps_N, parts, bars)
    heights_K_N = np.nan_to_num(np.stack([part.values_N for part in parts]))
    high = float(heights_K_N.sum(axis=0).max()) * 1.05 or 1.0
    values = linear_ticks(0.0, high, 5)
    left = 14.0 + CHAR_PX * max(len(trimmed(value)) for value in values)
    plot = Box(left, 10.0, width - 12.0, height - 26.0)
    up = Scale(0.0, high, plot.bottom, plot.top)
    slot = (plot.right - plot.left) / len(steps_N)
    wide = min(slot * 0.8, 40.0)
    first, last = float(steps_N[0]), float(steps_N[-1])
    along = Scale(first, last, plot.left + slot / 2, plot.right - slot / 2)
    drawn = []
    for n, step in enumerate(steps_N):
        base = 0.0
        for part, value in zip(parts, heights_K_N[:, n].tolist(), strict=True):
            top, bottom = up.at(base + value), up.at(base)
            note = tooltip(f"step {step:.0f}: {part.name} {short(value)} s")
            x = plot.left + (n + 0.5) * slot - wide / 2
            size = {"x": x, "y": top, "width": wide, "height": bottom - top}
            drawn.append(element("rect", note, class_=f"bar {part.class_}", **size))
            base += value
    y_ticks = [Tick(up.at(value), trimmed(value)) for value in values]
    grid = frame(plot, _step_ticks(along), y_ticks)
    return picture(title, width, height, grid, *drawn, class_=class_)


def scatter(
    title: str, points: Sequence[Point], cost_name: str, width: float, height: float, class_: str
) -> str:
    """Accuracy over cost, with intervals of accuracy and a label at every point.

    The first points get the best places for their labels and are drawn on top.
    """
    plot = Box(46.0, 24.0, width - 14.0, height - 44.0)
    low, high = padded([end for p in points for end in (p.low, p.high, p.accuracy)])
    up = Scale(max(low, -4.0), min(high, 104.0), plot.bottom, plot.top)
    along = _cost_scale([point.cost for point in points], plot)
    x_ticks = axis_ticks(along, 6)
    if along.log and min(point.cost for point in points) <= 0.0:
        x_ticks = [Tick(plot.left + _ZERO_PX / 3, "0"), *x_ticks]
    y_values = [value for value in linear_ticks(up.low, up.high, 6) if 0.0 <= value <= 100.0]
    anchors = [(_cost_at(p.cost, along, plot), up.at(p.accuracy)) for p in points]
    spans = [(up.at(p.high), up.at(p.low)) for p in points]
    marks = [Box(x - 8, y - 8, x + 8, y + 8) for x, y in anchors]
    marks += [
        Box(x - 5, top - 2, x + 5, bottom + 2)
        for (x, _), (top, bottom) in zip(anchors, spans, strict=True)
    ]
    boxes = place_labels(anchors, [point.name for point in points], marks, plot)
    lines = [_leader(anchor, box) for anchor, box in zip(anchors, boxes, strict=True)]
    dots = [_dot(*one) for one in zip(points, anchors, spans, strict=True)][::-1]
    names = [_name(*one) for one in zip(points, anchors, boxes, strict=True)]
    titles = text("accuracy, %", 4, 13, "start", "tick") + text(
        cost_name, plot.right, height - 6, "end", "tick"
    )
    grid = frame(plot, x_ticks, [Tick(up.at(value), trimmed(value)) for value in y_values])
    return picture(title, width, height, grid, titles, *lines, *dots, *names, class_=class_)


def _curve(line: Curve, steps_N: np.ndarray, along: Scale, up: Scale) -> str:
    smooth_N = _smoothed(line.values_N)
    known = _known(steps_N, line.values_N)
    points = [(along.at(step), up.at(value)) for step, value in known]
    means = [(along.at(step), up.at(value)) for step, value in _known(steps_N, smooth_N)]
    if len(points) >= _SMOOTHED_FROM:
        drawn = [_path(points, f"thin {line.class_}"), _path(means, f"thick {line.class_}")]
    else:
        drawn = [_path(points, f"thick {line.class_}")]
    radius = 3.0 if len(points) == 1 else 5.0
    look = f"bar {line.class_}" if len(points) == 1 else "hover"
    for (step, value), (x, y) in zip(known, points, strict=True):
        note = tooltip(f"step {step:.0f}: {line.name} {short(value)}")
        drawn.append(element("circle", note, cx=x, cy=y, r=radius, class_=look))
    return "".join(drawn)


def _known(steps_N: np.ndarray, values_N: np.ndarray) -> list[tuple[float, float]]:
    known_N = np.isfinite(values_N)
    return list(zip(steps_N[known_N].tolist(), values_N[known_N].tolist(), strict=True))


def _path(points: Sequence[tuple[float, float]], class_: str) -> str:
    return element(
        "polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_
    )


def _smoothed(values_N: np.ndarray) -> np.ndarray:
    """The mean of each value and its neighbours, an eighth of the curve in all."""
    reach = max(len(values_N) // 16, 1)
    windows = [values_N[max(n - reach, 0) : n + reach + 1] for n in range(len(values_N))]
    return np.array([_mean(window) for window in windows])


def _thinned(
    steps_N: np.ndarray, lines: Sequence[Curve], limit: int
) -> tuple[np.ndarray, list[Curve]]:
    """At most `limit` points: neighbours become their mean, under the last step of theirs."""
    bins = np.array_split(np.arange(len(steps_N)), min(limit, len(steps_N)))
    thin = [
        Curve(line.name, np.array([_mean(line.values_N[b]) for b in bins]), line.class_)
        for line in lines
    ]
    return np.array([steps_N[b[-1]] for b in bins]), thin


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _step_scale(steps_N: np.ndarray, plot: Box) -> Scale:
    return Scale(float(steps_N[0]), float(steps_N[-1]), plot.left, plot.right)


def _step_ticks(along: Scale) -> list[Tick]:
    if along.low == along.high:
        return [Tick(along.at(along.low), trimmed(along.low))]
    return [tick for tick in axis_ticks(along, 5) if "." not in tick.label]


def _cost_scale(costs: Sequence[float], plot: Box) -> Scale:
    """Logarithmic where the costs above zero span `_LOG_FROM` or more."""
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


def _name(point: Point, anchor: tuple[float, float], box: Box) -> str:
    """The label starts at the side of its box that is next to the point: fonts differ in width."""
    x, side = (box.left + box.right) / 2, "middle"
    if box.left >= anchor[0]:
        x, side = box.left, "start"
    elif box.right <= anchor[0]:
        x, side = box.right, "end"
    return text(point.name, x, box.bottom - 3, side, "name")


def _dot(point: Point, anchor: tuple[float, float], span: tuple[float, float]) -> str:
    x, y = anchor
    bar = {"class_": f"whisker {point.class_}"}
    whisker = element("line", x1=x, x2=x, y1=span[0], y2=span[1], **bar) + "".join(
        element("line", x1=x - 4, x2=x + 4, y1=end, y2=end, **bar) for end in span
    )
    interval = f"{point.accuracy:.1f}% [{point.low:.1f}, {point.high:.1f}]"
    note = tooltip(f"{point.name}: accuracy {interval}, cost {short(point.cost)}")
    return whisker + element("circle", note, cx=x, cy=y, r=6, class_=f"dot {point.class_}")


def parts_mean(parts: Sequence[Curve]) -> Mapping[str, float]:
    """The mean of each part over the steps that have it."""
    return {part.name: _mean(part.values_N) for part in parts}
