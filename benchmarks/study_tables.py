"""Rows, spreads over seeds and intervals for the sections of the study's page."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from study_runs import Pick, Row

RESAMPLES = 10_000
ROUTERS = ("random", "cheapest", "strongest", "oracle")  # the baselines of every comparison


def before(summary: Mapping[str, Any]) -> Row:
    return summary["before"]


def after(summary: Mapping[str, Any]) -> Row:
    return summary["after"] if "after" in summary else summary["policy"]


def baseline(name: str) -> Pick:
    return lambda summary: summary["baselines"][name]


def spread(values: Sequence[float], places: int, factor: float = 1.0, sign: str = "") -> str:
    low, mean, high = (factor * value for value in (min(values), fmean(values), max(values)))
    form = f"{sign}.{places}f"
    return f"{mean:{form}} ({low:{form}} to {high:{form}})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def paired_interval(by_seed: Sequence[Mapping[int, float]]) -> tuple[float, float]:
    """Returns the 95% percentile bootstrap interval of the mean difference.

    by_seed: the differences by task. Tasks are resampled, each with its differences of all seeds.
    """
    pooled: dict[int, list[float]] = {}
    for differences in by_seed:
        for n, value in differences.items():
            pooled.setdefault(n, []).append(value)
    sums_P = np.array([sum(found) for found in pooled.values()], np.float64)
    counts_P = np.array([len(found) for found in pooled.values()])
    picks_B_P = np.random.default_rng(0).integers(0, len(sums_P), (RESAMPLES, len(sums_P)))
    means_B = sums_P[picks_B_P].sum(axis=1) / counts_P[picks_B_P].sum(axis=1)
    low, high = np.percentile(means_B, [2.5, 97.5])
    return float(low), float(high)


HEAD = ("policy", "accuracy, %", "cost, cents", "latency, s", "turns", "reward")


def policy_row(name: str, rows: Sequence[Row]) -> list[str]:
    """Returns the columns of HEAD, without the reward if the rows have none."""
    cells = [
        name,
        spread([row["accuracy"] for row in rows], 1, 100),
        spread([row["cost_usd"] for row in rows], 3, 100),
        spread([row["latency_s"] for row in rows], 1),
        spread([row["turns"] for row in rows], 2),
    ]
    if all("reward" in row for row in rows):
        cells.append(spread([row["reward"] for row in rows], 3))
    return cells
