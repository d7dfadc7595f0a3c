"""From a group's trajectories to its score. Amounts come from the ledger and from nowhere else."""

from collections.abc import Callable, Sequence

import numpy as np

from orchestra_ray.core.money import usd
from orchestra_ray.core.records import (
    Draw,
    EpisodeScore,
    GroupScore,
    GroupSpec,
    Preference,
    Task,
    Trajectory,
)
from orchestra_ray.reward.advantage import group_advantages
from orchestra_ray.reward.objectives import group_rewards

Judge = Callable[[Task, str | None], bool]


def score_group(
    group: GroupSpec, trajectories_G: Sequence[Trajectory], judge: Judge, preset: str
) -> GroupScore:
    """Rewards and advantages of the episodes that came back, in their order.

    A group of one can be measured but teaches nothing: its advantage is 0 and `keep` is False.
    """
    correct_G = np.array([judge(group.task, t.answer) for t in trajectories_G])
    features_G_K = np.array(
        [_features(group.draw, t, c) for t, c in zip(trajectories_G, correct_G, strict=True)]
    )
    preference_K, minimise_K = weights(group.draw, group.preference)
    rewards_G = group_rewards(features_G_K, preference_K, correct_G, minimise_K, preset)
    if len(trajectories_G) > 1:
        advantages_G, keep = group_advantages(rewards_G, preset)
    else:
        advantages_G, keep = np.zeros(1), False
    episodes = (
        EpisodeScore(t.episode_id, bool(c), float(r), float(a))
        for t, c, r, a in zip(trajectories_G, correct_G, rewards_G, advantages_G, strict=True)
    )
    return GroupScore(group.group_id, tuple(episodes), keep)


def weights(draw: Draw, preference: Preference) -> tuple[np.ndarray, np.ndarray]:
    """(preference_K, minimise_K) in the columns' order: offers, outcome, dollars, seconds."""
    tools = [preference.tools.get(offer.identity, 0.0) for offer in draw.offers]
    preference_K = np.array([*tools, preference.outcome, preference.cost, preference.latency])
    minimise_K = np.array([False] * (len(tools) + 1) + [True, True])
    return preference_K, minimise_K


def _features(draw: Draw, trajectory: Trajectory, correct: bool) -> list[float]:
    ledger = trajectory.ledger
    calls = [float(sum(e.identity == offer.identity for e in ledger)) for offer in draw.offers]
    dollars = usd(sum(entry.price_nanousd for entry in ledger))
    seconds = sum(entry.service_s for entry in ledger)
    return [*calls, float(correct), dollars, seconds]
