"""Turn-level credit: a turn is charged the money and time spent from it on.

All turns of an episode share the outcome and the tools' part of its reward. Amounts spent before a
turn are sunk costs, which its tokens cannot influence. The price of a call is therefore charged to
the turn that made it and to earlier turns, never to later ones.

    return of turn t = R - sum_k slope_k (sunk_k,t - mean of sunk_k,t)

R is the episode's reward, sunk_k,t the amount spent in column k (dollars, seconds) before turn t,
and slope_k the effect of one unit on the reward, a negative number. The mean, over the charged
episodes of the group, is the baseline; an episode that ended before turn t counts with its total.
Without the baseline every late turn would have a higher return than every early one. With it, the
mean over the group of the returns at every t is the mean reward, so that the mean and standard
deviation of the rewards are valid for all turns.

At t = 0, and if all episodes have spent the same before t, the return is the reward and the
advantage that of the episode. Returns can be large if `paper` divides by a small span, since the
sunk costs of a group can differ by more than its totals. An advantage clip bounds them.
"""

from collections.abc import Sequence

import numpy as np


def turn_returns(
    rewards_G: np.ndarray, slopes_G_K: np.ndarray, spent_G: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Returns the return of each turn, by episode. spent_G: amounts by turn, [T, K] each."""
    turns = max(len(spent_T_K) for spent_T_K in spent_G)
    sunk_G_T_K = np.stack([_sunk(spent_T_K, turns) for spent_T_K in spent_G])
    charged_G_1_K = (slopes_G_K != 0)[:, None, :]
    means_T_K = (sunk_G_T_K * charged_G_1_K).sum(axis=0) / charged_G_1_K.sum(axis=0).clip(min=1)
    refunds_G_T = (slopes_G_K[:, None, :] * (means_T_K - sunk_G_T_K)).sum(axis=2)
    returns_G_T = rewards_G[:, None] + refunds_G_T
    return [row_T[: len(spent)] for row_T, spent in zip(returns_G_T, spent_G, strict=True)]


def _sunk(spent_T_K: np.ndarray, turns: int) -> np.ndarray:
    """Returns the amounts spent before each of `turns` turns; beyond the last, the totals."""
    sunk_T_K = np.zeros((turns, spent_T_K.shape[1]))
    for t in range(1, turns):
        sunk_T_K[t] = spent_T_K[:t].sum(axis=0)
    return sunk_T_K
