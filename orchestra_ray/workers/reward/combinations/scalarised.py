"""Fixed weights on raw amounts, without any statistics of the group.

    R = sum_k w_k s_k x_k      s_k = -1 where less is better, else 1

Units matter: w_k is the reward for one unit, so w is 1 for the outcome, per dollar, per second and
per call. Wrong episodes are charged like right ones; a group in which nobody is right can teach to
fail cheaply.
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
