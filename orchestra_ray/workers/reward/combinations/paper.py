"""Eq. 1 and 2 of ToolOrchestra (arXiv 2511.21689, section 3.2), with corrected signs.

    M_k = (x_k - worst_k) / (best_k - worst_k) over the group; 0 if all are equal
    R   = sum_k P_k M_k for a right episode, 0 for a wrong one

The result does not depend on units, as every column is divided by its span. P_k, in [0, 1], is
the value of the whole span of a column.
"""

import numpy as np

from orchestra_ray.workers.reward.combinations.terms import Terms, signs
from orchestra_ray.workers.reward.rounding import differs


def paper(
    features_G_K: np.ndarray,
    preference_K: np.ndarray,
    correct_G: np.ndarray,
    minimise_K: np.ndarray,
) -> Terms:
    signed_G_K = features_G_K * signs(minimise_K)
    worst_K, best_K = signed_G_K.min(axis=0), signed_G_K.max(axis=0)
    spans_K = best_K - worst_K
    spread_K = differs(worst_K, best_K)
    divisors_K = np.where(spread_K, spans_K, 1.0)
    weights_K = np.where(spread_K, preference_K, 0.0)
    terms_G_K = weights_K * ((signed_G_K - worst_K) / divisors_K)
    slopes_K = signs(minimise_K) * weights_K / divisors_K
    return Terms(terms_G_K, np.broadcast_to(slopes_K, terms_G_K.shape)).only(correct_G)
