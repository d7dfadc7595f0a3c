"""The figures of an evaluation: means over episodes with bootstrap intervals over tasks.

Pure NumPy. Episodes of one task are not independent, so tasks are resampled.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from orchestra_ray.core.faults import FaultKind
from orchestra_ray.core.records import OK

Interval = tuple[float, float]  # [low, high] of a figure, at 95%
AT_REST = FaultKind.UNAVAILABLE.value  # of calls refused by an open circuit breaker
MIDDLE_AND_TAIL = (50, 95)  # percentiles


@dataclass(frozen=True, slots=True)
class EpisodeOutcome:
    """One evaluated episode. Money in dollars, time in seconds on the episode's clock."""

    task_id: str
    correct: bool
    cost_usd: float
    latency_s: float
    reward: float
    turns: int
    family: str = ""  # of its task; without any, nothing is reported by family
    calls: Mapping[str, int] = field(default_factory=dict)  # by identity of the tool or model
    outcomes: Mapping[str, int] = field(default_factory=dict)  # calls by class of fault, or OK


@dataclass(frozen=True, slots=True)
class FamilySummary:
    """The accuracy on one family of tasks, or one benchmark."""

    accuracy: float
    accuracy_ci95: Interval
    tasks: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"accuracy_ci95": list(self.accuracy_ci95)}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "FamilySummary":
        return FamilySummary(
            float(values["accuracy"]), _pair(values["accuracy_ci95"]), int(values["tasks"])
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over episodes; `_ci95` are [low, high] of a figure. None: the stored summary lacks the
    figure.
    """

    accuracy: float
    accuracy_ci95: Interval
    cost_usd: float
    latency_s: float
    reward: float
    reward_ci95: Interval
    turns: float
    cost_usd_ci95: Interval | None = None
    latency_s_ci95: Interval | None = None
    latency_p50_s: float | None = None
    latency_p50_s_ci95: Interval | None = None
    latency_p95_s: float | None = None
    latency_p95_s_ci95: Interval | None = None
    preference_score: float | None = None  # Eq. 5 and 6 in calls, cents and seconds
    preference_score_ci95: Interval | None = None
    by_family: Mapping[str, FamilySummary] = field(default_factory=dict)
    calls: Mapping[str, float] = field(default_factory=dict)  # an episode, by identity
    calls_ci95: Mapping[str, Interval] = field(default_factory=dict)
    failed: Mapping[str, float] = field(default_factory=dict)  # share of calls, by class of fault

    @property
    def failed_share(self) -> float:
        """The fraction of calls that failed; 0 if unknown."""
        return min(1.0, math.fsum(self.failed.values()))

    @property
    def failed_mostly(self) -> str:
        """The most frequent class of fault; circuit-breaker refusals only if there is no other."""
        causes = {name: s for name, s in self.failed.items() if name != AT_REST} or self.failed
        return max(causes, key=lambda name: causes[name], default="")

    def to_json(self) -> dict[str, Any]:
        """Returns the object M of `summary.json`, without unknown figures."""
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
        values["by_family"] = {name: one.to_json() for name, one in self.by_family.items()}
        values["calls"] = dict(self.calls)
        values["calls_ci95"] = {name: list(ends) for name, ends in self.calls_ci95.items()}
        values["failed"] = dict(self.failed)
        return {name: value for name, value in values.items() if value not in (None, {})}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Summary":
        def number(name: str) -> float | None:
            return float(values[name]) if name in values else None

        def interval(name: str) -> Interval | None:
            return _pair(values[name]) if name in values else None

        families, calls = values.get("by_family", {}), values.get("calls", {})
        calls_ci95 = values.get("calls_ci95", {})
        return Summary(
            accuracy=float(values["accuracy"]),
            accuracy_ci95=_pair(values["accuracy_ci95"]),
            cost_usd=float(values["cost_usd"]),
            latency_s=float(values["latency_s"]),
            reward=float(values["reward"]),
            reward_ci95=_pair(values["reward_ci95"]),
            turns=float(values["turns"]),
            cost_usd_ci95=interval("cost_usd_ci95"),
            latency_s_ci95=interval("latency_s_ci95"),
            latency_p50_s=number("latency_p50_s"),
            latency_p50_s_ci95=interval("latency_p50_s_ci95"),
            latency_p95_s=number("latency_p95_s"),
            latency_p95_s_ci95=interval("latency_p95_s_ci95"),
            preference_score=number("preference_score"),
            preference_score_ci95=interval("preference_score_ci95"),
            by_family={name: FamilySummary.from_json(one) for name, one in families.items()},
            calls={name: float(count) for name, count in calls.items()},
            calls_ci95={name: _pair(ends) for name, ends in calls_ci95.items()},
            failed={name: float(share) for name, share in values.get("failed", {}).items()},
        )


def summarise(outcomes: Sequence[EpisodeOutcome], bootstrap: int, seed: int) -> Summary:
    """Returns means of the outcomes, in any order, with intervals from `bootstrap` resamples.

    Raises ValueError without an outcome or a resample.
    """
    if not outcomes or bootstrap < 1:
        raise ValueError(f"summarise: {len(outcomes)} outcomes, {bootstrap} resamples; needs both")
    columns = {
        "accuracy": [float(outcome.correct) for outcome in outcomes],
        "reward": [outcome.reward for outcome in outcomes],
        "cost_usd": [outcome.cost_usd for outcome in outcomes],
        "latency_s": [outcome.latency_s for outcome in outcomes],
    }
    resamples = _Resamples([outcome.task_id for outcome in outcomes], bootstrap, seed)
    intervals = {name: resamples.of_mean(column) for name, column in columns.items()}
    p50_s, p95_s = percentiles(columns["latency_s"], MIDDLE_AND_TAIL)
    p50_ci95, p95_ci95 = resamples.of_percentiles(columns["latency_s"], MIDDLE_AND_TAIL)
    calls = _calls(outcomes)
    return Summary(
        accuracy=_mean(columns["accuracy"]),
        accuracy_ci95=intervals["accuracy"],
        cost_usd=_mean(columns["cost_usd"]),
        latency_s=_mean(columns["latency_s"]),
        reward=_mean(columns["reward"]),
        reward_ci95=intervals["reward"],
        turns=_mean([outcome.turns for outcome in outcomes]),
        cost_usd_ci95=intervals["cost_usd"],
        latency_s_ci95=intervals["latency_s"],
        latency_p50_s=p50_s,
        latency_p50_s_ci95=p50_ci95,
        latency_p95_s=p95_s,
        latency_p95_s_ci95=p95_ci95,
        by_family=_by_family(outcomes, bootstrap, seed),
        calls=calls,
        calls_ci95={
            name: resamples.of_mean([float(one.calls.get(name, 0)) for one in outcomes])
            for name in calls
        },
        failed=_failed(outcomes),
    )


def percentiles(values: Sequence[float] | np.ndarray, percents: Sequence[float]) -> list[float]:
    """Returns the percentiles, by linear interpolation between neighbours."""
    return [float(found) for found in np.percentile(np.asarray(values, np.float64), percents)]


def _by_family(
    outcomes: Sequence[EpisodeOutcome], bootstrap: int, seed: int
) -> dict[str, FamilySummary]:
    """Returns the families by name; {} if no outcome names its family."""
    families: dict[str, list[EpisodeOutcome]] = {}
    for outcome in outcomes:
        families.setdefault(outcome.family, []).append(outcome)
    if set(families) == {""}:
        return {}
    found = {}
    for name, members in sorted(families.items()):
        task_ids = [outcome.task_id for outcome in members]
        correct = [float(outcome.correct) for outcome in members]
        interval = mean_interval(task_ids, correct, bootstrap, seed)
        found[name] = FamilySummary(_mean(correct), interval, len(set(task_ids)))
    return found


def _calls(outcomes: Sequence[EpisodeOutcome]) -> dict[str, float]:
    """Returns the mean calls of an episode, for each identity that was called."""
    sums: Counter[str] = Counter()
    for outcome in outcomes:
        sums.update(outcome.calls)
    return {name: count / len(outcomes) for name, count in sorted(sums.items())}


def _failed(outcomes: Sequence[EpisodeOutcome]) -> dict[str, float]:
    """Returns the fraction of all calls for each class of fault."""
    sums: Counter[str] = Counter()
    for outcome in outcomes:
        sums.update(outcome.outcomes)
    made = sums.total()
    return {name: count / made for name, count in sorted(sums.items()) if name != OK and count}


def _pair(ends: Sequence[Any]) -> Interval:
    low, high = map(float, ends)
    return low, high


def _mean(values_N: Sequence[float]) -> float:
    return math.fsum(values_N) / len(values_N)


def mean_interval(
    task_ids_N: Sequence[str], values_N: Sequence[float], bootstrap: int, seed: int
) -> Interval:
    """Returns the 95% interval of the mean of `values_N`, from `bootstrap` resamples of tasks."""
    return _Resamples(task_ids_N, bootstrap, seed).of_mean(values_N)


class _Resamples:
    """Percentile bootstrap (Efron and Tibshirani 1993, chapter 13), clustered by task.

    A resample takes as many tasks as there are, with replacement, and all episodes of each. If all
    values agree, the interval has no width.
    """

    def __init__(self, task_ids_N: Sequence[str], bootstrap: int, seed: int):
        names_P, self._tasks_N = np.unique(np.asarray(task_ids_N), return_inverse=True)
        self._tasks = len(names_P)
        shape = (bootstrap, self._tasks)
        self._picks_B_P = np.random.default_rng(seed).integers(0, self._tasks, size=shape)
        episodes_P = np.bincount(self._tasks_N, minlength=self._tasks)
        self._episodes_B = episodes_P[self._picks_B_P].sum(axis=1)

    def of_mean(self, values_N: Sequence[float]) -> Interval:
        sums_P = np.bincount(self._tasks_N, weights=np.asarray(values_N), minlength=self._tasks)
        return interval95(sums_P[self._picks_B_P].sum(axis=1) / self._episodes_B)

    def of_percentiles(
        self, values_N: Sequence[float], percents: Sequence[float]
    ) -> list[Interval]:
        known_N = np.asarray(values_N, np.float64)
        times_B_P = (np.bincount(picks, minlength=self._tasks) for picks in self._picks_B_P)
        found_B = [
            percentiles(np.repeat(known_N, times_P[self._tasks_N]), percents)
            for times_P in times_B_P
        ]
        return [interval95(column_B) for column_B in np.array(found_B).T]


def interval95(figures_B: np.ndarray) -> Interval:
    """Returns the 2.5th and 97.5th percentile of a figure over resamples."""
    low, high = np.percentile(figures_B, [2.5, 97.5])
    return float(low), float(high)
