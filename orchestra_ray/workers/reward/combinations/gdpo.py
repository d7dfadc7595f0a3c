"""Decoupled normalisation (GDPO, arXiv 2601.05242): each objective is standardised separately.

    z_k = (x_k - mean_k) / std_k over the group, the sample deviation; 0 if all are equal
    R   = sum_k P_k z_k

The paper then normalises over the batch: `group_advantages` and `batch_advantages` with "gdpo".

A wrong episode is assigned the amounts of the worst right one in every column but the outcome. This
is the paper's conditioned reward, in which an easy objective counts only if the hard one is met;
otherwise wrong answers would be rewarded for being cheap. No right episode scores below a wrong
one, and the rewards of a group sum to 0.

The term of a tool is its use relative to the group's mean: below 0 for an episode that did not use
it, if others did.

The outcome is a column like the others, 1 for a right and 0 for a wrong episode. The result does
not depend on units; an epsilon added to the deviation would make it so. P_k is the value of one
standard deviation.
"""

import numpy as np

from orchestra_ray.workers.reward.combinations.terms import Terms, outcome_column, signs
from orchestra_ray.workers.reward.rounding import differs


def gdpo(
    features_G_K: np.ndarray,
    preference_K: np.ndarray,
    correct_G: np.ndarray,
    minimise_K: np.ndarray,
) -> Terms:
    amounts_G_K = features_G_K * signs(minimise_K)
    counts_G_K = correct_G[:, None] | outcome_column(minimise_K)
    floor_K = np.where(counts_G_K, amounts_G_K, np.inf).min(axis=0)
    amounts_G_K = np.where(counts_G_K, amounts_G_K, np.where(np.isfinite(floor_K), floor_K, 0.0))
    stds_K = amounts_G_K.std(axis=0, ddof=1) if len(amounts_G_K) > 1 else np.zeros_like(floor_K)
    spread_K = differs(amounts_G_K.min(axis=0), amounts_G_K.max(axis=0)) & (stds_K > 0)
    weights_K, stds_K = np.where(spread_K, preference_K, 0.0), np.where(spread_K, stds_K, 1.0)
    terms_G_K = weights_K * ((amounts_G_K - amounts_G_K.mean(axis=0)) / stds_K)
    return Terms(terms_G_K, np.where(counts_G_K, signs(minimise_K) * weights_K / stds_K, 0.0))
