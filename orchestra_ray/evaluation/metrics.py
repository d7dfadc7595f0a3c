"""What an evaluation says in numbers: means over episodes with bootstrap intervals over tasks.

Pure NumPy. Episodes of one task are not independent, so tasks are what is resampled.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class EpisodeOutcome:
    """One evaluated episode. Money in dollars, time in seconds on the episode's clock."""

    task_id: str
    correct: bool
    cost_usd: float
    latency_s: float
    reward: float
    turns: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Means over episodes; `_ci95` are [low, high] of the mean."""

    accuracy: float
    accuracy_ci95: tuple[float, float]
    cost_usd: float
    latency_s: float
    reward: float
    reward_ci95: tuple[float, float]
    turns: float

    def to_json(self) -> dict[str, Any]:
        """The object M of `summary.json`."""
        values = asdict(self)
        return values | {name: list(values[name]) for name in ("accuracy_ci95", "reward_ci95")}

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "Summary":
        accuracy_low, accuracy_high = map(float, values["accuracy_ci95"])
        reward_low, reward_high = map(float, values["reward_ci95"])
        return Summary(
            accuracy=float(values["accuracy"]),
            accuracy_ci95=(accuracy_low, accuracy_high),
            cost_usd=float(values["cost_usd"]),
            latency_s=float(values["latency_s"]),
            reward=float(values["reward"]),
            reward_ci95=(reward_low, reward_high),
            turns=float(values["turns"]),
        )


def summarise(outcomes: Sequence[EpisodeOutcome], bootstrap: int, seed: int) -> Summary:
    """Means of the outcomes, in any order, with intervals from `bootstrap` resamples.

    Raises ValueError without an outcome or a resample.
    """
    if not outcomes or bootstrap < 1:
        raise ValueError(f"summarise: {len(outcomes)} outcomes, {bootstrap} resamples; needs both")
    correct_N = [float(outcome.correct) for outcome in outcomes]
    reward_N = [outcome.reward for outcome in outcomes]
    intervals = _intervals([o.task_id for o in outcomes], [correct_N, reward_N], bootstrap, seed)
    return Summary(
        accuracy=_mean(correct_N),
        accuracy_ci95=intervals[0],
        cost_usd=_mean([outcome.cost_usd for outcome in outcomes]),
        latency_s=_mean([outcome.latency_s for outcome in outcomes]),
        reward=_mean(reward_N),
        reward_ci95=intervals[1],
        turns=_mean([outcome.turns for outcome in outcomes]),
    )


def _mean(values_N: Sequence[float]) -> float:
    return math.fsum(values_N) / len(values_N)


def _intervals(
    task_ids_N: Sequence[str], columns_K_N: Sequence[Sequence[float]], bootstrap: int, seed: int
) -> list[tuple[float, float]]:
    """The 2.5th and 97.5th percentile of each column's mean over resampled tasks.

    Percentile bootstrap (Efron and Tibshirani 1993, chapter 13), clustered by task: a resample
    takes as many tasks as there are, with replacement, and all episodes of each. Where all values
    agree it has no width, however few they are.
    """
    names_P, tasks_N = np.unique(np.asarray(task_ids_N), return_inverse=True)
    tasks = len(names_P)
    episodes_P = np.bincount(tasks_N, minlength=tasks)
    picks_B_P = np.random.default_rng(seed).integers(0, tasks, size=(bootstrap, tasks))
    episodes_B = episodes_P[picks_B_P].sum(axis=1)
    intervals = []
    for column_N in columns_K_N:
        sums_P = np.bincount(tasks_N, weights=np.asarray(column_N), minlength=tasks)
        means_B = sums_P[picks_B_P].sum(axis=1) / episodes_B
        low, high = np.percentile(means_B, [2.5, 97.5])
        intervals.append((float(low), float(high)))
    return intervals
