"""The data of a report: runs, and settings, which are runs that differ only in their seed.

Pure functions of the contents of a run's files. A policy of a setting is the mean over its seeds.
"""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orchestra_ray.evaluation.report.trained import Trained
from orchestra_ray.evaluation.report.training import Metrics
from orchestra_ray.evaluation.significance import MEASURED, in_order
from orchestra_ray.evaluation.summary import FamilySummary, Interval, Summary
from orchestra_ray.evaluation.tradeoffs import Tradeoffs

_OF_ONE_RUN = (
    "name",
    "seed",
    "runs_dir",
    "tracking",
    "cluster",
)  # no part of a setting
_HELD_OUT = "heldout/"  # prefix of an evaluation's groups: heldout/POLICY/NUMBER
_SHOWN = {
    "policy": "model.path",
    "steps": "training.steps",
    "groups of a step": "training.groups_per_step",
    "episodes of a group": "training.group_size",
    "max staleness": "training.max_staleness",
    "learning rate": "learner.lr",
    "reward": "reward.preset",
    "catalogue": "catalogue.path",
    "turns at most": "rollout.max_turns",
}


@dataclass(frozen=True, slots=True)
class Run:
    """One run. `tree` is its whole configuration, {} if unknown."""

    name: str
    command: str
    metrics: Metrics
    rows: Mapping[str, Summary] = field(default_factory=dict)  # in the order of the tables
    tradeoffs: Tradeoffs | None = None
    tasks: int = 0  # held-out ones
    wall_s: float | None = None
    spent_usd: float | None = None
    shown: Mapping[str, Any] = field(default_factory=dict)  # of the configuration
    versions: Mapping[str, str] = field(default_factory=dict)
    tree: Mapping[str, Any] = field(default_factory=dict)
    tiny: bool = False  # its policy was made by `model.tiny`

    @property
    def trained(self) -> Trained | None:
        """Totals of the training; None for an evaluation."""
        return Trained.of(self.metrics, self.tiny)

    @property
    def seed(self) -> str:
        return str(self.tree.get("seed", ""))


@dataclass(frozen=True, slots=True)
class Setting:
    """Runs of one configuration, and its policies as means over them."""

    label: str
    runs: Sequence[Run]
    rows: Mapping[str, Summary]

    @property
    def seeds(self) -> int:
        """The number of evaluated runs."""
        return sum(bool(run.rows) for run in self.runs)

    def hypervolume_ends(self) -> Interval | None:
        """Returns the interval over tasks or, of several runs, the range; None if any lacks it."""
        found = self._tradeoffs()
        if len(found) == 1:
            return found[0].hypervolume_ci95
        return _range([one.hypervolume for one in found]) if found else None

    def equal_cost_usd_ends(self, name: str) -> Interval | None:
        """Returns the same for the own policy's cost at the accuracy of `name`."""
        found = self._tradeoffs()
        if len(found) == 1:
            return found[0].equal_cost_usd_ci95.get(name)
        if not found or any(name not in one.equal_cost_usd for one in found):
            return None
        return _range([one.equal_cost_usd[name] for one in found])

    def _tradeoffs(self) -> list[Tradeoffs]:
        """Returns those of every evaluated run; [] if any lacks them."""
        found = [run.tradeoffs for run in self.runs if run.rows]
        known = [one for one in found if one is not None]
        return known if len(known) == len(found) else []


def rows_of(
    summary: Mapping[str, Any], calls: Mapping[str, Mapping[str, float]] | None = None
) -> dict[str, Summary]:
    """Returns the policies of `summary.json`; `calls` serves those stored without calls."""
    if not summary:
        return {}
    found = {name: summary[name] for name in MEASURED if name in summary} | summary["baselines"]
    counted = calls or {}
    return in_order(
        {
            name: Summary.from_json({"calls": counted.get(name, {})} | values)
            for name, values in found.items()
        }
    )


def tradeoffs_of(summary: Mapping[str, Any]) -> Tradeoffs | None:
    """Returns the tradeoffs of `summary.json`, if it has any."""
    found = summary.get("tradeoffs")
    return None if found is None else Tradeoffs.from_json(found)


def calls_of(entries: pa.Table) -> dict[str, dict[str, float]]:
    """Returns by policy the mean calls of an episode, for each tool and model in a ledger.

    Over the held-out episodes in the ledger; a policy's own tokens are no call. A call that is
    recorded twice, by an evaluation that was resumed, counts once.
    """
    held_out = entries.filter(pc.call_function("starts_with", [entries["group"]], _prefix()))
    episodes: dict[str, set[str]] = {}
    counts: dict[str, dict[str, int]] = {}
    names = ["call", "group", "episode", "identity", "kind"]
    rows = zip(*(held_out[name].to_pylist() for name in names), strict=True)
    for _, group, episode, identity, kind in dict.fromkeys(rows):
        name = group.removeprefix(_HELD_OUT).rpartition("/")[0]
        episodes.setdefault(name, set()).add(episode)
        if kind != "policy":
            of_policy = counts.setdefault(name, {})
            of_policy[identity] = of_policy.get(identity, 0) + 1
    return {
        name: {identity: count / len(episodes[name]) for identity, count in of_policy.items()}
        for name, of_policy in counts.items()
    }


def _prefix() -> pc.FunctionOptions:
    return pc.MatchSubstringOptions(_HELD_OUT)


def worth_reading(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the few values of a configuration that a report shows."""
    found = {title: _at(tree, key) for title, key in _SHOWN.items()}
    return {title: value for title, value in found.items() if value is not None}


def _at(tree: Mapping[str, Any], key: str) -> Any:
    value: Any = tree
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def settings(runs: Sequence[Run]) -> list[Setting]:
    """Returns runs grouped by configuration, apart from seed and names, in order of appearance."""
    groups: list[list[Run]] = []
    for run in runs:
        same = (group for group in groups if run.tree and _alike(group[0], run))
        found = next(same, None)
        if found is None:
            groups.append([run])
        else:
            found.append(run)
    labels = [_label(group) for group in groups]
    if len(set(labels)) < len(labels):
        labels = [" + ".join(run.name for run in group) for group in groups]
    return [
        Setting(label, group, across([run.rows for run in group]))
        for label, group in zip(labels, groups, strict=True)
    ]


def _alike(one: Run, other: Run) -> bool:
    first, second = (
        {key: value for key, value in run.tree.items() if key not in _OF_ONE_RUN}
        for run in (one, other)
    )
    return first == second


def _label(group: Sequence[Run]) -> str:
    """Returns the common prefix of the runs' names, without the separator of the seed."""
    if len(group) == 1:
        return group[0].name
    common = os.path.commonprefix([run.name for run in group])
    return re.sub(r"([-_. ]+(seed|s)?[-_. ]*\d*)$", "", common, flags=re.I) or group[0].name


def across(runs: Sequence[Mapping[str, Summary]]) -> dict[str, Summary]:
    """Returns the policies common to all evaluated runs, as means over the runs.

    With several runs an interval is the range of their means.
    """
    evaluated = [rows for rows in runs if rows]
    if len(evaluated) < 2:
        return dict(evaluated[0]) if evaluated else {}
    names = [name for name in evaluated[0] if all(name in rows for rows in evaluated)]
    return {name: _mean_summary([rows[name] for rows in evaluated]) for name in names}


def _mean_summary(seeds: Sequence[Summary]) -> Summary:
    def values(name: str) -> list[float]:
        return [getattr(one, name) for one in seeds]

    def optional(name: str) -> float | None:
        return None if None in values(name) else _mean(values(name))

    def ends(name: str) -> Interval | None:
        return None if None in values(name) else _range(values(name))

    families = {name: [one.by_family.get(name) for one in seeds] for name in seeds[0].by_family}
    identities = sorted({name for one in seeds for name in one.calls})
    calls = {name: [one.calls.get(name, 0.0) for one in seeds] for name in identities}
    return Summary(
        accuracy=_mean(values("accuracy")),
        accuracy_ci95=_range(values("accuracy")),
        cost_usd=_mean(values("cost_usd")),
        latency_s=_mean(values("latency_s")),
        reward=_mean(values("reward")),
        reward_ci95=_range(values("reward")),
        turns=_mean(values("turns")),
        cost_usd_ci95=_range(values("cost_usd")),
        latency_s_ci95=_range(values("latency_s")),
        latency_p50_s=optional("latency_p50_s"),
        latency_p50_s_ci95=ends("latency_p50_s"),
        latency_p95_s=optional("latency_p95_s"),
        latency_p95_s_ci95=ends("latency_p95_s"),
        preference_score=optional("preference_score"),
        preference_score_ci95=ends("preference_score"),
        by_family={
            name: _mean_family([one for one in found if one is not None])
            for name, found in families.items()
            if None not in found
        },
        calls={name: _mean(counts) for name, counts in calls.items()},
        calls_ci95={name: _range(counts) for name, counts in calls.items()},
        failed={
            name: _mean([one.failed.get(name, 0.0) for one in seeds])
            for name in sorted({name for one in seeds for name in one.failed})
        },
    )


def _mean_family(seeds: Sequence[FamilySummary]) -> FamilySummary:
    accuracies = [one.accuracy for one in seeds]
    return FamilySummary(_mean(accuracies), _range(accuracies), min(one.tasks for one in seeds))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _range(values: Sequence[float]) -> Interval:
    return min(values), max(values)
