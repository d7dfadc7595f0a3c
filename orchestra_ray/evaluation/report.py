"""One HTML file about a run: what it reached, at what cost, and how training went.

Self-contained: inline style and SVG, no script, no address outside the file, and a policy in the
page that forbids loading any. All text is redacted and escaped.
"""

import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from orchestra_ray.core.states import Failure
from orchestra_ray.evaluation.charts import Point, scatter
from orchestra_ray.evaluation.metrics import Summary
from orchestra_ray.evaluation.panels import ENGINE, LEARNING, Metrics, Panel, endings, panel, phases
from orchestra_ray.evaluation.style import CSS
from orchestra_ray.evaluation.svg import element
from orchestra_ray.evaluation.verdict import MEASURED, Comparison, compare_all, sentences, subject
from orchestra_ray.tracking.files import write_text
from orchestra_ray.tracking.redact import Redactor
from orchestra_ray.tracking.units import column_decimals, cost_unit, duration


class RunInfo(TypedDict):
    """What the report says of the run itself. `config` holds the few values worth reading."""

    name: str
    command: str
    config: Mapping[str, Any]
    wall_s: float
    versions: Mapping[str, str]


def write_report(
    path: Path,
    summary: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    run: RunInfo,
) -> Failure | None:
    """Writes the report. `summary` is the object of `summary.json`, {} without an evaluation;
    `metrics` are the lines of `metrics.jsonl`."""
    clean = Redactor.of().clean
    return write_text(path, render_report(clean(summary), clean(metrics), clean(run)))


def render_report(
    summary: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], run: RunInfo
) -> str:
    """The page as text."""
    steps = Metrics(metrics)
    evaluation = _evaluation(summary) if summary else ""
    sections = [evaluation, _training(steps), phases(steps), endings(steps), _reproduce(run)]
    body = element("main", _title(summary, steps, run), *sections)
    return _PAGE.format(title=html.escape(run["name"]), css=CSS, body=body)


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{css}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _title(summary: Mapping[str, Any], steps: Metrics, run: RunInfo) -> str:
    parts = [f"training steps: {len(steps.steps_N):,}", f"wall time {duration(run['wall_s'])}"]
    if summary:
        parts.insert(1, f"held-out tasks: {summary['tasks']:,}")
    return element("h1", html.escape(run["name"])) + element(
        "p", html.escape(" · ".join(parts)), class_="soft"
    )


def _evaluation(summary: Mapping[str, Any]) -> str:
    measured = {name: summary[name] for name in MEASURED if name in summary}
    found = measured | summary["baselines"]
    rows = {name: Summary.from_json(values) for name, values in found.items()}
    result = element(
        "section",
        element("h2", "Result"),
        element("p", html.escape(sentences(rows)), class_="verdict"),
        _table(rows),
        element("p", _HOW_TO_READ, class_="soft"),
        class_="card",
    )
    return result + _pareto(rows)


_HOW_TO_READ = (
    "Means over the episodes of the held-out tasks; the same tasks, draws and seeds for every row."
    " Small figures are 95% bootstrap intervals over tasks. “− this” is the difference of"
    " the mean rewards: “outside both” where the mean of each lies outside the other’s interval,"
    " else no difference is shown."
)


def _table(rows: Mapping[str, Summary]) -> str:
    own, comparisons = subject(rows), compare_all(rows)
    unit = cost_unit(one.cost_usd for one in rows.values())
    cost_places = column_decimals([one.cost_usd * unit.per_usd for one in rows.values()])
    time_places = column_decimals([one.latency_s for one in rows.values()])
    body = []
    for name, one in rows.items():
        accuracy_ends = [100 * end for end in one.accuracy_ci95]
        cells = {
            "Accuracy, %": (f"{100 * one.accuracy:.1f}", _interval(accuracy_ends, 1)),
            f"Cost, {unit.symbol}": (f"{one.cost_usd * unit.per_usd:,.{cost_places}f}", ""),
            "Latency, s": (f"{one.latency_s:,.{time_places}f}", ""),
            "Reward": (_signed(one.reward, 3), _interval(one.reward_ci95, 3)),
            "Turns": (f"{one.turns:.2f}", ""),
            f"{own.capitalize()} − this": _against(comparisons.get(name)),
        }
        body.append(_row(name, cells, "own rule" if name == own else ""))
    headings = ("Policy", *cells)
    head = [element("th", html.escape(h), scope="col", role="columnheader") for h in headings]
    return element(
        "table",
        element("thead", element("tr", *head, role="row"), role="rowgroup"),
        element("tbody", *body, role="rowgroup"),
        role="table",
    )


def _row(name: str, cells: Mapping[str, tuple[str, str]], class_: str) -> str:
    """A row of the table. The roles stay where a phone's layout takes the table's away."""
    drawn = [
        element(
            "td",
            html.escape(value),
            element("small", html.escape(note)) if note else "",
            role="cell",
            data_label=heading,
        )
        for heading, (value, note) in cells.items()
    ]
    label = element("th", html.escape(name), scope="row", role="rowheader")
    return element("tr", label, *drawn, role="row", class_=class_)


def _against(comparison: Comparison | None) -> tuple[str, str]:
    """The difference of the rewards, and whether it is shown."""
    if comparison is None:
        return "–", ""
    gain = f"{'+' if comparison.difference >= 0 else ''}{_signed(comparison.difference, 3)}"
    return gain, "outside both" if comparison.outside_both else "not shown"


def _interval(ends: Sequence[float], places: int) -> str:
    return f"{_signed(ends[0], places)} to {_signed(ends[1], places)}"


def _signed(value: float, places: int) -> str:
    return f"{value:.{places}f}".replace("-", "−")


def _pareto(rows: Mapping[str, Summary]) -> str:
    unit = cost_unit(one.cost_usd for one in rows.values())
    points = [
        Point(
            name,
            one.cost_usd * unit.per_usd,
            100 * one.accuracy,
            100 * one.accuracy_ci95[0],
            100 * one.accuracy_ci95[1],
            _POINT_CLASS.get(name, "grey"),
        )
        for name, one in sorted(rows.items(), key=lambda row: row[0] != subject(rows))
        if math.isfinite(sum((one.cost_usd, one.accuracy, *one.accuracy_ci95)))
    ]
    if not points:
        return ""
    title, axis = "Accuracy against cost", f"cost an episode, {unit.symbol}"
    return element(
        "section",
        element("h2", title),
        element("p", "Up is more often right, left is cheaper. Bars are 95% intervals."),
        scatter(title, points, axis, 820.0, 400.0, "wide"),
        scatter(title, points, axis, 340.0, 360.0, "narrow"),
        class_="card",
    )


_POINT_CLASS = {"after": "blue", "policy": "blue", "before": "blue hollow", "oracle": "green"}


def _training(steps: Metrics) -> str:
    learning, engine = _grid(steps, LEARNING), _grid(steps, ENGINE)
    if not learning and not engine:
        return ""
    note = (
        "By step, over the episodes of the training batches, which are sampled; not the held-out"
        " tasks. Thin lines are as measured, thick ones means of neighbouring steps, and the"
        " figure beside a title is the mean of the last five steps."
    )
    heading = element("h2", "Training") + element("p", note)
    return element("section", heading, class_="intro") + learning + engine


def _grid(steps: Metrics, panels: Sequence[Panel]) -> str:
    cards = "".join(panel(steps, one) for one in panels)
    return element("div", cards, class_="grid") if cards else ""


def _reproduce(run: RunInfo) -> str:
    groups = (("Configuration", run["config"]), ("Versions", run["versions"]))
    lists = [element("h3", title) + _definitions(values) for title, values in groups if values]
    return element(
        "section",
        element("h2", "Reproduce"),
        element("pre", element("code", html.escape(run["command"]))),
        *lists,
        class_="card",
    )


def _definitions(values: Mapping[str, Any]) -> str:
    rows = [
        element("dt", html.escape(name)) + element("dd", html.escape(str(value)))
        for name, value in values.items()
    ]
    return element("dl", *rows)
