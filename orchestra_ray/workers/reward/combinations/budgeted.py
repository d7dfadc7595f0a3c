"""Maximises correct answers under a bound on mean cost, by a Lagrange multiplier.

    max E[outcome]  so that  E[dollars] <= budget
    R      = outcome - lambda dollars / budget
    lambda <- max(0, lambda + rate (mean dollars / budget - 1))      `next_multiplier`, once a step

The constant of the Lagrangian is omitted, as it is the same for every episode. lambda and rate have
no unit; at lambda = 1, spending the whole budget once is worth one right answer. Wrong episodes are
charged like right ones, as the bound applies to the mean of all.

The multiplier is passed as the weight of the dollars' column, preference_K = lambda / budget; any
column where less is better can be bounded this way. The outcome is `correct_G`; all columns where
more is better, including the outcome's, are ignored.
"""

import numpy as np

from orchestra_ray.workers.reward.combinations.terms import Terms, outcome_column


def budgeted(
    features_G_K: np.ndarray,
    preference_K: np.ndarray,
    correct_G: np.ndarray,
    minimise_K: np.ndarray,
) -> Terms:
    slopes_K = np.where(minimise_K, -preference_K, 0.0)
    terms_G_K = slopes_K * features_G_K + np.outer(correct_G, outcome_column(minimise_K))
    return Terms(terms_G_K, np.broadcast_to(slopes_K, terms_G_K.shape))


def next_multiplier(multiplier: float, mean_usd: float, budget_usd: float, rate: float) -> float:
    """Returns the multiplier after one step of dual ascent, 0 at least."""
    if not budget_usd > 0:
        raise ValueError(f"next_multiplier: a budget of {budget_usd} USD; give one above 0")
    return max(0.0, multiplier + rate * (mean_usd / budget_usd - 1.0))
