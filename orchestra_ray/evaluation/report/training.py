"""The lines of `metrics.jsonl` as panels of charts. A panel without data is left out."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestra_ray.evaluation.report.charts import Curve, curves, parts_mean, stacked
from orchestra_ray.evaluation.report.svg import element
from orchestra_ray.tracking.units import cost_unit, short

_PHASES = ("generate", "score", "train", "publish")  # in the order of a step; others follow
_PARTS = ("outcome", "cost", "latency", "tools")
_COLOURS = ("blue", "amber", "green", "violet", "pink", "grey")
_RECENT = 5  # last steps, of which a panel shows the mean


@dataclass(frozen=True, slots=True)
class Panel:
    """Metrics in one chart: names by key. `factor` scales to the unit."""

    title: str
    names: Mapping[str, str]
    factor: float = 1.0


LEARNING = (
    Panel("Reward", {"reward_mean": "reward"}),
    Panel("Accuracy, %", {"accuracy": "accuracy"}, 100.0),
    Panel("Cost an episode", {"cost_usd": "cost"}),
    Panel("Latency an episode, s", {"latency_s": "latency"}),
    Panel("Turns an episode", {"turns": "turns"}),
    Panel("Response tokens", {"response_tokens": "tokens"}),
    Panel("Entropy", {"entropy": "entropy"}),
    Panel("Reward by part", {f"reward/{part}": part for part in _PARTS}),
    Panel("Calls to the tool called most, %", {"choice/top_share": "share"}, 100.0),
    Panel("Preference adherence", {"preference/adherence": "adherence"}),
    Panel("KL divergence", {"approx_kl": "of a step", "ref_kl": "from the start"}),
    Panel("Groups of a step", {"groups_kept": "kept", "groups_dropped": "dropped"}),
)
ENGINE = (
    Panel("Generated tokens/s", {"tokens_per_s": "tokens/s"}),
    Panel("Loss", {"loss": "loss"}),
    Panel("Gradient norm", {"grad_norm": "norm"}),
    Panel("Log-probability gap", {"logprob_gap": "gap"}),
    Panel("KL, engine to learner", {"behaviour_kl": "KL"}),
    Panel("Clipped tokens, %", {"clip_fraction": "clipped"}, 100.0),
    Panel("Driver CPU, s", {"driver_cpu_s": "CPU"}),
)


@dataclass(frozen=True, slots=True)
class Trace:
    """The metrics of one run among several, with the name and the colour of its lines."""

    name: str
    metrics: "Metrics"
    class_: str


class Metrics:
    """The steps of a run in order; of a step that occurs twice, after a resume, the last line."""

    def __init__(self, lines: Sequence[Mapping[str, Any]]):
        by_step = {line["step"]: line for line in lines if _number(line.get("step")) is not None}
        self._lines = [by_step[step] for step in sorted(by_step)]
        self.steps_N = np.array(sorted(by_step), dtype=np.float64)

    def values(self, key: str) -> np.ndarray | None:
        """Returns float64 (N,), NaN for a line without a finite number; None without any."""
        numbers = [_number(line.get(key)) for line in self._lines]
        values_N = np.array([math.nan if one is None else one for one in numbers])
        return values_N if np.isfinite(values_N).any() else None

    def keys(self, prefix: str) -> list[str]:
        """Returns every key with `prefix`, without the prefix, in order of appearance."""
        found = {key: None for line in self._lines for key in line if key.startswith(prefix)}
        return [key.removeprefix(prefix) for key in found]


def panel(metrics: Metrics, wanted: Panel) -> str:
    """Returns a card with the panel's chart, or ""."""
    found = {key: metrics.values(key) for key in wanted.names}
    known = {key: values_N for key, values_N in found.items() if values_N is not None}
    if not known:
        return ""
    title, factor = wanted.title, wanted.factor
    if "cost_usd" in known:
        unit = cost_unit(known["cost_usd"].tolist())
        title, factor = f"{title}, {unit.symbol}", unit.per_usd
    lines = [
        Curve(wanted.names[key], values_N * factor, colour)
        for (key, values_N), colour in zip(known.items(), _COLOURS, strict=False)
    ]
    recent = " / ".join(_recent(line.values_N) for line in lines)
    heading = element("h3", html.escape(title)) + element("span", html.escape(recent))
    return element(
        "section",
        element("div", heading, class_="head"),
        legend({one.name: one.class_ for one in lines}) if len(wanted.names) > 1 else "",
        curves(title, metrics.steps_N, lines),
        class_="card",
    )


def beside(traces: Sequence[Trace], wanted: Panel) -> str:
    """Returns a card with the first metric of the panel for several runs, or ""."""
    key, name = next(iter(wanted.names.items()))
    found = [(trace, trace.metrics.values(key)) for trace in traces]
    known = [(trace, values_N) for trace, values_N in found if values_N is not None]
    if not known:
        return ""
    title, factor = wanted.title, wanted.factor
    if len(wanted.names) > 1:
        title = f"{title}: {name}"
    if key == "cost_usd":
        unit = cost_unit([value for _, values_N in known for value in values_N.tolist()])
        title, factor = f"{title}, {unit.symbol}", unit.per_usd
    steps_N = np.unique(np.concatenate([trace.metrics.steps_N for trace, _ in known]))
    lines = []
    for trace, values_N in known:
        on_all_N = np.full(len(steps_N), math.nan)
        on_all_N[np.searchsorted(steps_N, trace.metrics.steps_N)] = values_N * factor
        lines.append(Curve(trace.name, on_all_N, trace.class_))
    heading = element("div", element("h3", html.escape(title)), class_="head")
    return element("section", heading, curves(title, steps_N, lines), class_="card")


def phases(metrics: Metrics) -> str:
    """Returns a card with the seconds of each phase of a step, or ""."""
    keys = metrics.keys("seconds/")
    ordered = [key for key in _PHASES if key in keys]
    ordered += sorted(key for key in keys if key not in (*_PHASES, "step"))
    found = {key: metrics.values(f"seconds/{key}") for key in ordered}
    known = {key: values_N for key, values_N in found.items() if values_N is not None}
    if not known:
        return ""
    step_N = metrics.values("seconds/step")
    if step_N is not None:
        # Phases of an asynchronous loop overlap; then there is no rest.
        rest_N = step_N - np.nansum(np.stack(list(known.values())), axis=0)
        known |= {"rest of the step": np.maximum(rest_N, 0.0)}
    parts = [
        Curve(key, values_N, _COLOURS[min(n, len(_COLOURS) - 1)])
        for n, (key, values_N) in enumerate(known.items())
    ]
    title = "Seconds of each phase, by step"
    means = parts_mean(parts)
    named = {f"{one.name} {short(means[one.name], 2)} s": one.class_ for one in parts}
    return element(
        "section",
        element("h2", "Time of a step"),
        element("p", "Seconds of each phase; the legend gives the mean over all steps."),
        legend(named),
        stacked(title, metrics.steps_N, parts, 1000.0, 80, "wide"),
        stacked(title, metrics.steps_N, parts, 340.0, 32, "narrow"),
        class_="card",
    )


def endings(metrics: Metrics) -> str:
    """Returns a card with the run's accounting at its last step, or ""."""
    found = {key: metrics.values(f"accounting/{key}") for key in metrics.keys("accounting/")}
    last = {key: values_N[-1] for key, values_N in found.items() if values_N is not None}
    rows = [
        element("dt", html.escape(key.replace("_", " "))) + element("dd", f"{count:,.0f}")
        for key, count in last.items()
        if count > 0
    ]
    if not rows:
        return ""
    return element(
        "section",
        element("h2", "How the training episodes ended"),
        element("dl", *rows),
        class_="card",
    )


def legend(colours: Mapping[str, str]) -> str:
    """Returns a legend; the values are the classes of the colours."""
    items = [
        element("li", element("i", class_=class_), html.escape(name))
        for name, class_ in colours.items()
    ]
    return element("ul", *items, class_="legend")


def _recent(values_N: np.ndarray) -> str:
    known = values_N[np.isfinite(values_N)]
    figure = short(float(known[-_RECENT:].mean()))
    return figure.rstrip("0").rstrip(".") if "." in figure else figure


def _number(value: Any) -> float | None:
    """Returns a finite number unchanged; None for everything else, such as "NaN"."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None
