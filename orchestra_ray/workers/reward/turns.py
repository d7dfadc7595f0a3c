"""Turn-level credit: money and time are charged to the turns that led to them, not to later ones.

The outcome and the tools' part of a reward are shared by all turns of an episode. What was spent
before a turn is sunk for it: its tokens could no longer change that. So a turn is charged what the
episode spends from it on, and a call's price falls on the turn that asked for it and on those
before, never on those after it.

    return of turn t = R - sum_k slope_k (sunk_k,t - mean of sunk_k,t)

R is the episode's reward, sunk_k,t what it spent in column k (dollars, seconds) before turn t, and
slope_k what a unit of it does to the reward, a negative number. The mean is over the episodes of
the group that are charged at all; one that ended before turn t has spent everything by then. It
is the baseline: without it, every late turn would look better than every early one. With it, the
mean over the group of the returns at every t is the mean reward, so that one mean and one standard
deviation, those of the rewards, serve all turns.

Where t = 0, and wherever the group has spent alike before t, the return is the reward itself, and
the advantage the episode's. Where `paper` divides by a small span, returns can be large: what the
group spent before can differ by more than what it spent altogether. An advantage clip bounds them.
"""

from collections.abc import Sequence

import numpy as np


def turn_returns(
    rewards_G: np.ndarray, slopes_G_K: np.ndarray, spent_G: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """For every episode the return of each turn. spent_G: [T, K] each, amounts by turn."""
    turns = max(len(spent_T_K) for spent_T_K in spent_G)
    sunk_G_T_K = np.stack([_sunk(spent_T_K, turns) for spent_T_K in spent_G])
    charged_G_1_K = (slopes_G_K != 0)[:, None, :]
    means_T_K = (sunk_G_T_K * charged_G_1_K).sum(axis=0) / charged_G_1_K.sum(axis=0).clip(min=1)
    refunds_G_T = (slopes_G_K[:, None, :] * (means_T_K - sunk_G_T_K)).sum(axis=2)
    returns_G_T = rewards_G[:, None] + refunds_G_T
    return [row_T[: len(spent)] for row_T, spent in zip(returns_G_T, spent_G, strict=True)]


def _sunk(spent_T_K: np.ndarray, turns: int) -> np.ndarray:
    """What was spent before each of `turns` turns; after the last one of the episode, all."""
    sunk_T_K = np.zeros((turns, spent_T_K.shape[1]))
    for t in range(1, turns):
        sunk_T_K[t] = spent_T_K[:t].sum(axis=0)
    return sunk_T_K
