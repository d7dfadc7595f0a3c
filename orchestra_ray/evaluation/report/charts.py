"""Charts over training steps: curves, and stacked bars of phases."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestra_ray.evaluation.report.svg import (
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
    tooltip,
)
from orchestra_ray.tracking.units import short, trimmed

MAX_DOTS = 120  # points of a curve; a longer one is shown as means of neighbours
_SMOOTHED_FROM = 12  # points; a shorter curve has no line of means


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity over steps; NaN where a step has no value. `class_` gives the colour."""

    name: str
    values_N: np.ndarray
    class_: str


def curves(title: str, steps_N: np.ndarray, lines: Sequence[Curve]) -> str:
    """Returns lines over steps: thin for values, thick for means of neighbouring steps."""
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
    """Returns stacked bars over steps; a missing value counts as 0."""
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
    rectangles = []
    for n, step in enumerate(steps_N):
        base = 0.0
        for part, value in zip(parts, heights_K_N[:, n].tolist(), strict=True):
            top, bottom = up.at(base + value), up.at(base)
            note = tooltip(f"step {step:.0f}: {part.name} {short(value)} s")
            x = plot.left + (n + 0.5) * slot - wide / 2
            size = {"x": x, "y": top, "width": wide, "height": bottom - top}
            rectangles.append(element("rect", note, class_=f"bar {part.class_}", **size))
            base += value
    y_ticks = [Tick(up.at(value), trimmed(value)) for value in values]
    grid = frame(plot, _step_ticks(along), y_ticks)
    return picture(title, width, height, grid, *rectangles, class_=class_)


def _curve(line: Curve, steps_N: np.ndarray, along: Scale, up: Scale) -> str:
    smooth_N = _smoothed(line.values_N)
    known = _known(steps_N, line.values_N)
    points = [(along.at(step), up.at(value)) for step, value in known]
    means = [(along.at(step), up.at(value)) for step, value in _known(steps_N, smooth_N)]
    if len(points) >= _SMOOTHED_FROM:
        marks = [_path(points, f"thin {line.class_}"), _path(means, f"thick {line.class_}")]
    else:
        marks = [_path(points, f"thick {line.class_}")]
    radius = 3.0 if len(points) == 1 else 5.0
    look = f"bar {line.class_}" if len(points) == 1 else "hover"
    for (step, value), (x, y) in zip(known, points, strict=True):
        note = tooltip(f"step {step:.0f}: {line.name} {short(value)}")
        marks.append(element("circle", note, cx=x, cy=y, r=radius, class_=look))
    return "".join(marks)


def _known(steps_N: np.ndarray, values_N: np.ndarray) -> list[tuple[float, float]]:
    known_N = np.isfinite(values_N)
    return list(zip(steps_N[known_N].tolist(), values_N[known_N].tolist(), strict=True))


def _path(points: Sequence[tuple[float, float]], class_: str) -> str:
    return element(
        "polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in points), class_=class_
    )


def _smoothed(values_N: np.ndarray) -> np.ndarray:
    """Returns centred means over an eighth of the curve."""
    reach = max(len(values_N) // 16, 1)
    windows = [values_N[max(n - reach, 0) : n + reach + 1] for n in range(len(values_N))]
    return np.array([_mean(window) for window in windows])


def _thinned(
    steps_N: np.ndarray, lines: Sequence[Curve], limit: int
) -> tuple[np.ndarray, list[Curve]]:
    """Returns at most `limit` points: means of neighbours, at the last of their steps."""
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


def parts_mean(parts: Sequence[Curve]) -> Mapping[str, float]:
    """Returns the mean of each part over the steps that have it."""
    return {part.name: _mean(part.values_N) for part in parts}
