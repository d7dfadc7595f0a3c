"""What ToolOrchestra's published code computes (NVlabs, commit 67bb7c7), faults and all.

Only to reproduce it: it pays for cost and latency. P_k is the preference, x_k the amount; a wrong
episode gets 0, and a column of no span is left out.

    outcome   P (x - min) / (max - min)                over the group
    tools     P (x - min) / (max - min)                min and max over those that used the tool
    cost, latency   P (x + max) / (max - min) + P max / (max - min)

The differences from Eq. 1 and 2: the sign of cost and latency, in the numerator alone, is turned
round (first summand); the code's sum over all keys meets them a second time with a count of 0
(second summand); an episode that did not use a tool can get less than 0 for it. What the code
leaves out of the amounts is left out in `orchestra_ray.workers.reward.columns`.

The outcome is the last column of those where more is better, the others of those are tools. Units
do not matter.
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
