"""The most right answers that a bound on mean cost allows, by a Lagrange multiplier.

    max E[outcome]  so that  E[dollars] <= budget
    R      = outcome - lambda dollars / budget
    lambda <- max(0, lambda + rate (mean dollars / budget - 1))      `next_multiplier`, once a step

The constant of the Lagrangian is left out: it is the same for every episode. lambda and rate have
no unit; lambda = 1 means that spending the whole budget once is worth one right answer. Wrong
episodes are charged like right ones, as the bound holds for the mean of all.

The multiplier comes in as the weight of the dollars' column, preference_K = lambda / budget; so
any column where less is better can have a bound. The outcome is `correct_G`; the columns where
more is better, its own among them, do not count.
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
    """Dual ascent: up while the episodes cost more than the budget, down to 0 while less."""
    if not budget_usd > 0:
        raise ValueError(f"next_multiplier: a budget of {budget_usd} USD; give one above 0")
    return max(0.0, multiplier + rate * (mean_usd / budget_usd - 1.0))
