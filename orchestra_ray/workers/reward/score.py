"""Scores the trajectories of a group. All amounts come from the ledger."""

from collections.abc import Callable, Sequence

import numpy as np

from orchestra_ray.core.faults import DropReason
from orchestra_ray.core.records import EpisodeScore, GroupScore, GroupSpec, Task, Trajectory
from orchestra_ray.workers.reward.advantage import GroupStatistics, group_statistics
from orchestra_ray.workers.reward.columns import SPENT, Column, RewardPart, amounts, columns
from orchestra_ray.workers.reward.objectives import group_terms
from orchestra_ray.workers.reward.overlong import overlong_penalty
from orchestra_ray.workers.reward.rounding import spreads
from orchestra_ray.workers.reward.settings import RewardSettings
from orchestra_ray.workers.reward.turns import turn_returns

IsCorrect = Callable[[Task, str | None], bool]


def score_group(
    group: GroupSpec,
    trajectories_G: Sequence[Trajectory],
    is_correct: IsCorrect,
    settings: RewardSettings,
) -> GroupScore:
    """Returns rewards and advantages of the given episodes, in their order.

    A group of one has a reward, but its advantage is 0 and `keep` is False.
    """
    released = settings.combination == "released"
    columns_K = columns(group.toolset, settings.weights_under(group.preference), released)
    amounts_G = [amounts(group.toolset, columns_K, t, released) for t in trajectories_G]
    correct_G = np.array([is_correct(group.task, t.answer) for t in trajectories_G], dtype=bool)
    terms = group_terms(
        np.array([a.row(c) for a, c in zip(amounts_G, correct_G, strict=True)]),
        np.array([column.weight for column in columns_K]),
        correct_G,
        np.array([column.minimise for column in columns_K]),
        settings.combination,
    )
    lengths_G = np.array([_length_part(t, settings) for t in trajectories_G])
    rewards_G = terms.rewards_G + lengths_G
    size = float(np.abs(terms.terms_G_K).sum(axis=1).max() + np.abs(lengths_G).max())
    statistics = _statistics(rewards_G, settings, size)
    turns_G = [()] * len(trajectories_G)
    if settings.turn_credit and statistics is not None and statistics.keep:
        spent_G = [a.spent_T_2 for a in amounts_G]
        returns_G = turn_returns(rewards_G, terms.slopes_G_K[:, -len(SPENT) :], spent_G)
        turns_G = [
            tuple(statistics.advantages(returns_T[: len(t.turns)]).tolist())
            for returns_T, t in zip(returns_G, trajectories_G, strict=True)
        ]
    advantages_G = (
        np.zeros_like(rewards_G) if statistics is None else statistics.advantages(rewards_G)
    )
    episodes = tuple(
        EpisodeScore(
            episode_id=t.episode_id,
            correct=bool(correct_G[g]),
            reward=float(rewards_G[g]),
            advantage=float(advantages_G[g]),
            turn_advantages=turns_G[g],
            parts=_parts(columns_K, terms.terms_G_K[g])
            | ({} if settings.overlong is None else {"length": float(lengths_G[g])}),
        )
        for g, t in enumerate(trajectories_G)
    )
    keep = statistics is not None and statistics.keep
    reason = None if keep else _reason(rewards_G, correct_G, size)
    return GroupScore(group.group_id, episodes, keep, reason=reason)


def _statistics(
    rewards_G: np.ndarray, settings: RewardSettings, size: float
) -> GroupStatistics | None:
    """Returns the group's statistics; None for a group of one."""
    if rewards_G.size < 2:
        return None
    return group_statistics(rewards_G, settings.advantage, settings.clip, size)


def _length_part(trajectory: Trajectory, settings: RewardSettings) -> float:
    """Returns the penalty of the longest response; 0 if length is not part of the reward."""
    if settings.overlong is None:
        return 0.0
    longest = max((turn.end - turn.start for turn in trajectory.turns), default=0)
    return overlong_penalty(longest, *settings.overlong)


def _parts(columns_K: Sequence[Column], terms_K: np.ndarray) -> dict[str, float]:
    parts = dict.fromkeys(map(str, RewardPart), 0.0)
    for column, term in zip(columns_K, terms_K, strict=True):
        parts[column.part] += float(term)
    return parts


def _reason(rewards_G: np.ndarray, correct_G: np.ndarray, size: float) -> DropReason:
    if rewards_G.size < 2:
        return DropReason.SINGLE
    if spreads(rewards_G, size):
        return DropReason.CLOSE
    return DropReason.EQUAL if correct_G.any() else DropReason.ALL_WRONG
