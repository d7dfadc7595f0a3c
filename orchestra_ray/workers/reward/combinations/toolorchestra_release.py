"""The reward of ToolOrchestra's published code (NVlabs, commit 67bb7c7), errors included.

For reproduction only: it rewards cost and latency. P_k is the preference, x_k the amount; a wrong
episode gets 0, and columns without a span are omitted.

    outcome   P (x - min) / (max - min)                over the group
    tools     P (x - min) / (max - min)                over the episodes that used the tool
    cost, latency   P (x + max) / (max - min) + P max / (max - min)

Differences from Eq. 1 and 2: the sign of cost and latency is inverted in the numerator only (first
summand); the code's sum over all keys includes them a second time with a count of 0 (second
summand); the term of a tool can be negative for an episode that did not use it. Amounts that the
code omits are omitted in `orchestra_ray.workers.reward.columns`.

The outcome is the last of the columns where more is better, the others of these are tools. The
result does not depend on units.
"""

import numpy as np

from orchestra_ray.workers.reward.combinations.terms import Terms, outcome_column
from orchestra_ray.workers.reward.rounding import differs


def released(
    features_G_K: np.ndarray,
    preference_K: np.ndarray,
    correct_G: np.ndarray,
    minimise_K: np.ndarray,
) -> Terms:
    counted_G_K = (features_G_K > 0) | minimise_K | outcome_column(minimise_K)
    low_K = np.where(counted_G_K, features_G_K, np.inf).min(axis=0)
    high_K = np.where(counted_G_K, features_G_K, -np.inf).max(axis=0)
    spread_K = differs(low_K, high_K)
    divisors_K = np.where(spread_K, high_K - low_K, 1.0)
    slopes_K = np.where(spread_K, preference_K / divisors_K, 0.0)
    origins_K = np.where(spread_K, np.where(minimise_K, -2 * high_K, low_K), 0.0)
    terms_G_K = slopes_K * (features_G_K - origins_K)
    return Terms(terms_G_K, np.broadcast_to(slopes_K, terms_G_K.shape)).only(correct_G)
