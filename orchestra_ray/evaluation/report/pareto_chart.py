"""The accuracy-cost front of a setting as a card: chart, members, hypervolume."""

import html
import math
from collections.abc import Sequence

from orchestra_ray.evaluation.pareto import Tradeoff, hypervolume_share
from orchestra_ray.evaluation.report.runs import Setting
from orchestra_ray.evaluation.report.scatter import Point, front_of, scatter
from orchestra_ray.evaluation.report.svg import element
from orchestra_ray.evaluation.significance import BOUNDS, subject
from orchestra_ray.evaluation.summary import Interval, Summary
from orchestra_ray.tracking.units import CostUnit, cost, cost_unit

TITLE = "Accuracy against cost"
_CLASSES = {"after": "blue", "policy": "blue", "before": "blue hollow", "oracle": "green"}
_COLOURS = ("blue", "amber", "violet", "pink", "green", "grey")


def fronts(found: Sequence[Setting]) -> str:
    """Returns a card for each setting, after one with the policies of all if there are several."""
    evaluated = [setting for setting in found if setting.rows]
    cards = [_of_setting(setting, len(evaluated) > 1) for setting in evaluated]
    return "".join([_of_all(evaluated) if len(evaluated) > 1 else "", *cards])


def _of_all(found: Sequence[Setting]) -> str:
    rows = {setting.label: setting.rows[subject(setting.rows)] for setting in found}
    unit = cost_unit(one.cost_usd for one in rows.values())
    points = [
        _point(setting, label, one, unit, _COLOURS[n % len(_COLOURS)])
        for n, (setting, (label, one)) in enumerate(zip(found, rows.items(), strict=True))
        if _finite(one)
    ]
    return _card(f"{TITLE}: the policies of all settings", points, unit, []) if points else ""


def _of_setting(setting: Setting, named: bool) -> str:
    own = subject(setting.rows)
    unit = cost_unit(one.cost_usd for one in setting.rows.values())
    points = [
        _point(setting, name, one, unit, _CLASSES.get(name, "grey"))
        for name, one in sorted(setting.rows.items(), key=lambda row: row[0] != own)
        if _finite(one)
    ]
    if not points:
        return ""
    title = f"{TITLE}: {setting.label}" if named else TITLE
    return _card(title, points, unit, _area(points, own, unit, setting.hypervolume_ends()))


def _point(setting: Setting, name: str, one: Summary, unit: CostUnit, class_: str) -> Point:
    """Returns the point of a row, with its runs if it is a mean of several."""
    row = name if name in setting.rows else subject(setting.rows)
    runs = [run.rows[row] for run in setting.runs if row in run.rows]
    low, high = one.accuracy_ci95
    return Point(
        name,
        one.cost_usd * unit.per_usd,
        100 * one.accuracy,
        100 * low,
        100 * high,
        class_,
        tuple(Tradeoff(run.cost_usd * unit.per_usd, 100 * run.accuracy) for run in runs)
        if len(runs) > 1
        else (),
        bound=name in BOUNDS,
    )


def _finite(one: Summary) -> bool:
    return math.isfinite(sum((one.cost_usd, one.accuracy, *one.accuracy_ci95)))


def _card(title: str, points: Sequence[Point], unit: CostUnit, more: Sequence[str]) -> str:
    notes = [
        "Higher is more accurate, further left is cheaper; bars are the intervals of the table.",
        f"The line is the Pareto front: {', '.join(one.name for one in front_of(points))}.",
        *more,
    ]
    if any(point.bound for point in points):
        notes.append("The oracle router is a bound and is not on the front.")
    axis = f"cost a task, {unit.symbol}"
    return element(
        "section",
        element("h2", html.escape(title)),
        element("p", html.escape(" ".join(notes))),
        scatter(title, points, axis, 820.0, 400.0, "wide"),
        scatter(title, points, axis, 340.0, 360.0 + 30.0 * max(len(points) - 6, 0), "narrow"),
        class_="card",
    )


def _area(points: Sequence[Point], own: str, unit: CostUnit, ends: Interval | None) -> list[str]:
    """Returns the hypervolume with and without the policy, as fractions of the whole box."""
    real = {point.name: Tradeoff(point.cost, point.accuracy) for point in points if not point.bound}
    dearest = max((one.cost for one in real.values()), default=0.0)
    if dearest <= 0.0:
        return []
    corner = Tradeoff(dearest, 100.0)
    whole = hypervolume_share(list(real.values()), corner)
    rest = [one for name, one in real.items() if name != own]
    without = hypervolume_share(rest, corner)
    between = f" ({ends[0]:.3f}–{ends[1]:.3f})" if ends is not None else ""
    least = f"without {own} {without:.3f}, " if rest and own in real else ""
    return [
        f"Its hypervolume is {whole:.3f}{between}, {least}where 1 is the area from no cost to"
        f" {cost(dearest / unit.per_usd)}, the dearest policy’s, and from 0 to 100%."
    ]
