"""Scales, ticks, label placement, and the marks of the charts."""

import math
import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.evaluation.report.charts import MAX_DOTS, Curve, curves, stacked
from orchestra_ray.evaluation.report.labels import elided, place_labels
from orchestra_ray.evaluation.report.scatter import Point, front_of, scatter
from orchestra_ray.evaluation.report.svg import (
    Box,
    Scale,
    axis_ticks,
    element,
    linear_ticks,
    log_ticks,
    padded,
    text,
)

PLOT = Box(46.0, 24.0, 326.0, 316.0)
inside = st.tuples(st.floats(46.0, 326.0), st.floats(24.0, 316.0))
names = st.sampled_from(["after", "before", "random", "cheapest", "strongest", "oracle"])


def test_text_and_attributes_are_escaped() -> None:
    assert "<b>" not in text("<b>&", 0, 0)
    assert element("a", title='">') == '<a title="&quot;&gt;"></a>'


@given(st.floats(1e-6, 1e6), st.floats(1.01, 1e5), st.floats(0, 1), st.booleans())
def test_a_scale_keeps_order_and_ends(low: float, ratio: float, share: float, log: bool) -> None:
    scale = Scale(low, low * ratio, 10.0, 110.0, log)
    assert math.isclose(scale.at(low), 10.0, abs_tol=1e-6)
    assert math.isclose(scale.at(low * ratio), 110.0, abs_tol=1e-6)
    assert 10.0 - 1e-6 <= scale.at(low + share * (low * ratio - low)) <= 110.0 + 1e-6


@given(st.floats(-1e5, 1e5), st.floats(1e-6, 1e6), st.integers(1, 10))
def test_linear_ticks_lie_in_the_range_and_are_few(start: float, span: float, about: int) -> None:
    low = start * span
    high = low + span
    ticks = linear_ticks(low, high, about)
    assert all(low - span * 1e-6 <= tick <= high + span * 1e-6 for tick in ticks)
    assert len(ticks) <= about + 1


def test_log_ticks_are_the_named_multiples() -> None:
    assert [round(tick, 6) for tick in log_ticks(0.009, 0.3, (1, 2, 5))] == [
        0.01, 0.02, 0.05, 0.1, 0.2,
    ]  # fmt: skip


@given(st.floats(1e-4, 1e3), st.floats(15.0, 1e6))
def test_the_labels_of_an_axis_stand_clear(low: float, ratio: float) -> None:
    ticks = axis_ticks(Scale(low, low * ratio, 46.0, 326.0, log=True), 6)
    boxes = [tick.box(0.0) for tick in ticks]
    assert not any(a.overlaps(b) for a, b in zip(boxes, boxes[1:], strict=False))


@given(st.lists(st.tuples(inside, names), min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_labels_overlap_neither_each_other_nor_marks(found: list) -> None:
    anchors = [anchor for anchor, _ in found]
    marks = [Box(x - 8, y - 30, x + 8, y + 30) for x, y in anchors]
    boxes = place_labels(anchors, [name for _, name in found], marks, PLOT)
    for n, box in enumerate(boxes):
        assert PLOT.holds(box)
        assert not any(box.overlaps(other) for other in [*boxes[:n], *marks])


def test_a_range_is_never_empty() -> None:
    for values in ([0.0], [1.0, 1.0], [-3.0], [0.0, 5.0], [0.1, 0.1 + 2e-17, 0.1 + 1e-16]):
        low, high = padded(values)
        assert low < min(values) and high > max(values)
        assert high - low > 0.01 * abs(values[0])


def point(name: str, cost: float, accuracy: float) -> Point:
    return Point(name, cost, accuracy, accuracy - 5, accuracy + 5, "grey")


def circles(markup: str) -> dict[str, tuple[float, float]]:
    found = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"[^>]*><title>(\w+):', markup)
    return {name: (float(x), float(y)) for x, y, name in found}


def test_scatter_puts_cheap_left_and_accurate_up() -> None:
    places = circles(scatter("t", [point("a", 1, 50), point("b", 3, 80)], "cost", 340, 360, ""))
    assert places["a"][0] < places["b"][0]
    assert places["a"][1] > places["b"][1]


def test_costs_that_span_decades_get_a_logarithmic_axis_with_a_place_for_zero() -> None:
    points = [point("none", 0, 50), point("a", 0.01, 50), point("b", 0.1, 50), point("c", 1, 50)]
    markup = scatter("t", points, "cost", 340, 360, "")
    places = circles(markup)
    steps = [places["b"][0] - places["a"][0], places["c"][0] - places["b"][0]]
    assert math.isclose(steps[0], steps[1], abs_tol=0.2)
    assert places["none"][0] < places["a"][0]
    assert ">0</text>" in markup


def test_the_front_passes_through_the_points_that_are_not_dominated_and_no_bounds() -> None:
    oracle = Point("oracle", 1, 99, 98, 100, "green", bound=True)
    points = [point("dear", 9, 80), oracle, point("cheap", 1, 40), point("worse", 9.5, 60)]
    assert [one.name for one in front_of(points)] == ["cheap", "dear"]
    markup = scatter("t", points, "cost", 340, 360, "")
    places = circles(markup)
    (line,) = re.findall(r'<polyline points="([^"]+)" class="front"', markup)
    corners = [tuple(map(float, corner.split(","))) for corner in line.split()]
    assert corners[0] == places["cheap"] and corners[2] == places["dear"]
    assert corners[1] == (places["dear"][0], places["cheap"][1])
    assert corners[3][1] == places["dear"][1] and len(corners) == 4


@given(st.text(max_size=40), st.integers(5, 30))
def test_a_long_label_keeps_both_ends(label: str, most: int) -> None:
    short = elided(label, most)
    assert len(short) <= most
    assert short == label or (label.startswith(short[: most // 2 - 1]) and short[-1] == label[-1])


def test_a_long_curve_is_thinned_and_keeps_its_end() -> None:
    steps = np.arange(1, 5001, dtype=float)
    markup = curves("t", steps, [Curve("reward", steps / 5000, "blue")])
    notes = re.findall(r"<title>step (\d+): reward", markup)
    assert len(notes) == MAX_DOTS and notes[-1] == "5000"


def test_a_gap_in_a_curve_is_left_out() -> None:
    values = np.array([1.0, math.nan, 3.0])
    markup = curves("t", np.array([1.0, 2.0, 3.0]), [Curve("loss", values, "blue")])
    assert re.findall(r"<title>step (\d+)", markup) == ["1", "3"]
    assert "nan" not in markup


def test_stacked_bars_add_up() -> None:
    parts = [Curve("generate", np.array([3.0]), "blue"), Curve("train", np.array([1.0]), "amber")]
    markup = stacked("t", np.array([1.0]), parts, 340, 30, "")
    (y1, h1), (y2, h2) = [
        (float(y), float(h))
        for y, h in re.findall(r'<rect [^>]*y="([\d.]+)"[^>]*height="([\d.]+)"', markup)
    ]
    assert math.isclose(h1 / h2, 3.0, rel_tol=0.01)
    assert math.isclose(y2 + h2, y1, abs_tol=0.11)
