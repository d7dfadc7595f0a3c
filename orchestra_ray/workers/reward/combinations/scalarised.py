"""Fixed weights on raw amounts, without group statistics.

    R = sum_k w_k s_k x_k      s_k = -1 if less is better, else 1

w_k is the reward for one unit: per correct outcome, dollar, second or call. Wrong episodes are
charged like right ones; a group without right episodes can therefore train cheap failures.
"""

import numpy as np

from orchestra_ray.workers.reward.combinations.terms import Terms, signs


def scalarised(
    features_G_K: np.ndarray,
    preference_K: np.ndarray,
    correct_G: np.ndarray,
    minimise_K: np.ndarray,
) -> Terms:
    slopes_K = signs(minimise_K) * preference_K
    return Terms(slopes_K * features_G_K, np.broadcast_to(slopes_K, features_G_K.shape))
