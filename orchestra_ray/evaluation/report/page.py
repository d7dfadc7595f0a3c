"""One HTML page about one run or several: results, cost, and the course of training.

Self-contained: inline style and SVG, no script, no external address, and a content security policy
that forbids loading any. All text is redacted and escaped. A section without data is left out.
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from orchestra_ray.core.faults import Failure
from orchestra_ray.evaluation.report.calls import shares
from orchestra_ray.evaluation.report.pareto_chart import fronts
from orchestra_ray.evaluation.report.runs import Run, Setting, rows_of, settings, tradeoffs_of
from orchestra_ray.evaluation.report.style import CSS
from orchestra_ray.evaluation.report.svg import element
from orchestra_ray.evaluation.report.tables import against, result, side_by_side
from orchestra_ray.evaluation.report.training import (
    ENGINE,
    LEARNING,
    Metrics,
    Trace,
    beside,
    endings,
    legend,
    panel,
    phases,
)
from orchestra_ray.tracking.files import write_text
from orchestra_ray.tracking.redact import Redactor
from orchestra_ray.tracking.units import cost, duration

_COLOURS = ("blue", "amber", "green", "violet", "pink", "grey")


class RunInfo(TypedDict):
    """The report's data on the run itself. `config`: the few settings that the page shows."""

    name: str
    command: str
    config: Mapping[str, Any]
    wall_s: float
    versions: Mapping[str, str]
    tiny: NotRequired[bool]  # the policy was made by `model.tiny`


def write_report(
    path: Path,
    summary: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    run: RunInfo,
) -> Failure | None:
    """Writes the page of one run.

    `summary`: the object of `summary.json`, {} without an evaluation. `metrics`: the lines of
    `metrics.jsonl`.
    """
    clean = Redactor.of().clean
    return write_text(path, render_report(clean(summary), clean(metrics), clean(run)))


def render_report(
    summary: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], run: RunInfo
) -> str:
    """Returns the page of one run as text."""
    one = Run(
        name=run["name"],
        command=run["command"],
        metrics=Metrics(metrics),
        rows=rows_of(summary),
        tradeoffs=tradeoffs_of(summary),
        tasks=summary.get("tasks", 0),
        wall_s=run["wall_s"],
        shown=run["config"],
        versions=run["versions"],
        tiny=run.get("tiny", False),
    )
    return render_page([one])


def render_page(runs: Sequence[Run], command: str = "") -> str:
    """Returns the page of one run or several; `command`: the one that made the page, or ""."""
    found = settings(runs)
    title = found[0].label if len(found) == 1 else f"{len(runs)} runs"
    sections = [
        result(found),
        fronts(found),
        against(found),
        side_by_side(found),
        shares(found),
        _trained(runs),
        _training(found),
        *([phases(runs[0].metrics), endings(runs[0].metrics)] if len(runs) == 1 else []),
        _reproduce(found, command),
    ]
    body = element("main", _title(title, runs), *sections)
    return _PAGE.format(title=html.escape(title), css=CSS, body=body)


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


def _title(title: str, runs: Sequence[Run]) -> str:
    steps = [len(run.metrics.steps_N) for run in runs]
    tasks = [run.tasks for run in runs if run.rows]
    wall_s = [run.wall_s for run in runs if run.wall_s is not None]
    spent_usd = [run.spent_usd for run in runs if run.spent_usd is not None]
    parts = [f"runs: {len(runs)}"] if len(runs) > 1 else []
    parts += [f"training steps: {_span(steps)}"] if any(steps) else []
    parts += [f"held-out tasks: {_span(tasks)}"] if tasks else []
    parts += [f"wall time {duration(sum(wall_s))}"] if wall_s else []
    parts += [f"spent {cost(sum(spent_usd))}"] if spent_usd else []
    return element("h1", html.escape(title)) + element(
        "p", html.escape(" · ".join(parts)), class_="soft"
    )


def _span(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _trained(runs: Sequence[Run]) -> str:
    """Returns the card of a single run's training; several runs have tables instead."""
    known = runs[0].trained if len(runs) == 1 else None
    return "" if known is None else known.card()


def _training(found: Sequence[Setting]) -> str:
    runs = [run for setting in found for run in setting.runs]
    one = len(runs) == 1
    traces = _traces(found)
    cards = [
        panel(runs[0].metrics, wanted) if one else beside(traces, wanted)
        for wanted in (*LEARNING, *ENGINE)
    ]
    if not any(cards):
        return ""
    note = (
        "By step, over the sampled episodes of the training batches, not over held-out tasks."
        " Thin lines are the values of each step, thick lines means of neighbouring steps"
    )
    note += ", and the figure beside a title is the mean of the last five steps." if one else "."
    heading = element("h2", "Training") + element("p", note)
    heading += "" if one else legend({trace.name: trace.class_ for trace in traces})
    return element("section", heading, class_="intro") + element("div", *cards, class_="grid")


def _traces(found: Sequence[Setting]) -> list[Trace]:
    """Returns a line for each run, coloured by run or, with several settings, by setting."""
    pairs = [(n, setting, run) for n, setting in enumerate(found) for run in setting.runs]
    if len(found) == 1:
        pairs = [(n, setting, run) for n, (_, setting, run) in enumerate(pairs)]
    several = len(found) > 1
    return [
        Trace(setting.label if several else run.name, run.metrics, _COLOURS[n % len(_COLOURS)])
        for n, setting, run in pairs
    ]


def _reproduce(found: Sequence[Setting], command: str) -> str:
    runs = [run for setting in found for run in setting.runs]
    commands = [*(run.command for run in runs), *([command] if command else [])]
    code = "\n".join(one for one in commands if one)
    lists = []
    for setting in found:
        first = setting.runs[0]
        more = f" of {setting.label}" if len(found) > 1 else ""
        groups = (("Configuration", first.shown), ("Versions", first.versions))
        lists += [
            element("h3", html.escape(title + more)) + _definitions(values)
            for title, values in groups
            if values
        ]
    if not code and not lists:
        return ""
    return element(
        "section",
        element("h2", "Reproduce"),
        element("pre", element("code", html.escape(code))) if code else "",
        *lists,
        class_="card",
    )


def _definitions(values: Mapping[str, Any]) -> str:
    rows = [
        element("dt", html.escape(name)) + element("dd", html.escape(str(value)))
        for name, value in values.items()
    ]
    return element("dl", *rows)
