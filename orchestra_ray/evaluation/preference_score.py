"""How well a policy follows its users: the paper's preference score (App. L, Eq. 5 and 6).

A policy is compared with the one before training, example by example. Columns are calls of each
tool or model, then outcome (1 right, 0 wrong), cents and seconds, none of them negative. By Eq. 5
an amount to be raised gives M_s / max(1, M_0), and one to be lowered M_0 / max(1, M_s), where M_s
is the policy's amount and M_0 the start's. By Eq. 6 an example's score is their sum by the user's
weights if the policy is right, else 0.

The floor of 1 has a unit, so the score depends on units: below one cent or one second further
savings do not count (the term is M_0), and in dollars or minutes the same episodes would have
another score. The paper states no unit; here it is always cents and seconds. If calls cost less
than a cent, compare mean costs as well.

The paper's benchmark score is the sum over examples, which grows with their number; the mean does
not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestra_ray.core.money import NANOUSD_PER_USD
from orchestra_ray.core.records import Preference

AMOUNTS = 3  # the last columns: outcome, cents, seconds
MINIMISED = 2  # the last of them
FLOOR = 1.0  # a call, a right answer, a cent, a second
NANOUSD_PER_CENT = NANOUSD_PER_USD // 100


@dataclass(frozen=True, slots=True)
class PreferenceScore:
    """R^e of each example, in the order of the input."""

    scores_N: np.ndarray

    @property
    def sum(self) -> float:
        return float(self.scores_N.sum())

    @property
    def mean(self) -> float:
        """0 without examples."""
        return float(self.scores_N.mean()) if self.scores_N.size else 0.0


def preference_score(
    features_N_K: np.ndarray,
    baseline_N_K: np.ndarray,
    preference_N_K: np.ndarray,
    correct_N: np.ndarray,
) -> PreferenceScore:
    """Returns Eq. 5 and 6 in float64; `features` are the policy's, `baseline` the start's.

    preference_N_K: weights in [0, 1]. correct_N: bool, of the policy. Raises ValueError if the
    shapes do not fit, or an amount is negative or not finite.
    """
    features_N_K, baseline_N_K, preference_N_K = (
        np.asarray(given, dtype=np.float64)
        for given in (features_N_K, baseline_N_K, preference_N_K)
    )
    correct_N = np.asarray(correct_N, dtype=bool)
    _check(features_N_K, baseline_N_K, preference_N_K, correct_N)
    gained_N_K = features_N_K / np.maximum(FLOOR, baseline_N_K)
    spared_N_K = baseline_N_K / np.maximum(FLOOR, features_N_K)
    is_minimised_K = np.arange(features_N_K.shape[1]) >= features_N_K.shape[1] - MINIMISED
    normalised_N_K = np.where(is_minimised_K, spared_N_K, gained_N_K)
    weighted_N = (normalised_N_K * preference_N_K).sum(axis=1)
    return PreferenceScore(np.where(correct_N, weighted_N, 0.0))


def feature_row(
    names: Sequence[str],
    calls: Mapping[str, int],
    correct: bool,
    price_nanousd: int,
    latency_s: float,
) -> np.ndarray:
    """Returns an episode's features_K. `names`: all tools and models that any toolset offers."""
    counts = [float(calls.get(name, 0)) for name in names]
    return np.array([*counts, float(correct), price_nanousd / NANOUSD_PER_CENT, latency_s])


def weight_row(names: Sequence[str], preference: Preference) -> np.ndarray:
    """Returns a preference's weights_K, in the columns of `feature_row`."""
    tools = [preference.tools.get(name, 0.0) for name in names]
    return np.array([*tools, preference.outcome, preference.cost, preference.latency])


def _check(
    features_N_K: np.ndarray,
    baseline_N_K: np.ndarray,
    preference_N_K: np.ndarray,
    correct_N: np.ndarray,
) -> None:
    shape = features_N_K.shape
    if len(shape) != 2 or shape[1] < AMOUNTS:
        raise ValueError(f"preference_score: features of shape {shape}; needs (N, tools + 3)")
    for name, given, wanted in (
        ("baseline", baseline_N_K, shape),
        ("preference", preference_N_K, shape),
        ("correct", correct_N, shape[:1]),
    ):
        if given.shape != wanted:
            raise ValueError(f"preference_score: {name} of shape {given.shape}; needs {wanted}")
    for name, given in (("features", features_N_K), ("baseline", baseline_N_K)):
        if not (np.isfinite(given) & (given >= 0)).all():
            raise ValueError(f"preference_score: {name} hold an amount that is not 0 or more")
    if not ((preference_N_K >= 0) & (preference_N_K <= 1)).all():
        raise ValueError("preference_score: a weight is outside [0, 1]")
