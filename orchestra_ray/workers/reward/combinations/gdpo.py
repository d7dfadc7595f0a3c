"""Decoupled normalisation (GDPO, arXiv 2601.05242): every objective is standardised by itself.

    z_k = (x_k - mean_k) / std_k over the group, the sample deviation; 0 where the group agrees
    R   = sum_k P_k z_k

The paper then normalises over the batch: `group_advantages` and `batch_advantages` with "gdpo".

A wrong episode has the amounts of the worst right one in every column but the outcome. That is the
paper's conditioned reward, where an easy objective counts only if the hard one is met: else being
cheap, which is easier than being right, would pay for wrong answers. So no right episode scores
below a wrong one, and the rewards of a group sum to 0.

A tool is worth what its use lies above the group's mean: to an episode that did not use it, less
than 0 where others did, and no less than to anybody else.

The outcome is a column like the others, 1 for a right and 0 for a wrong episode. Units do not
matter; there is no epsilon beside the deviation, which would make them matter. P_k is what one
standard deviation is worth.
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
