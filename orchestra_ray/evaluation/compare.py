"""Policies compared on the same tasks: rewards over all of their episodes, then summaries.

Rewards are the paper's Eq. 1 and 2 over the pool of all compared policies' episodes of a task, so
they are comparable within one comparison and not across. Pure functions of the episodes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from orchestra_ray.core.money import usd
from orchestra_ray.core.records import GroupSpec, Preference
from orchestra_ray.data.catalogue.keys import is_counted
from orchestra_ray.evaluation.episode_log import EvalEpisode
from orchestra_ray.evaluation.preference_score import (
    PreferenceScore,
    feature_row,
    preference_score,
    weight_row,
)
from orchestra_ray.evaluation.summary import EpisodeOutcome, Summary, mean_interval, summarise
from orchestra_ray.workers.reward.columns import RewardPart, columns
from orchestra_ray.workers.reward.objectives import group_rewards
from orchestra_ray.workers.reward.settings import RewardSettings

Episodes = Mapping[int, EvalEpisode]  # of one policy, by the task's number


def compare(
    by_policy: Mapping[str, Episodes],
    groups: Mapping[int, GroupSpec],
    bootstrap: int,
    seed: int,
    start: str | None = None,
) -> dict[str, Summary]:
    """Returns a summary for each policy, over the tasks `groups`, for which all have an episode.

    start: the reference policy of the paper's preference score; None: no such score.
    """
    outcomes: dict[str, list[EpisodeOutcome]] = {name: [] for name in by_policy}
    for number, group in groups.items():
        episodes = [by_policy[name][number] for name in by_policy]
        for name, one, reward in zip(
            by_policy, episodes, pool_rewards(group, episodes), strict=True
        ):
            outcomes[name].append(_outcome(one, float(reward)))
    summaries = {name: summarise(found, bootstrap, seed) for name, found in outcomes.items()}
    if start is None:
        return summaries
    preferences = {number: group.preference for number, group in groups.items()}
    scored = {}
    for name, one in summaries.items():
        score = _preference_score(by_policy[name], by_policy[start], preferences)
        task_ids = [by_policy[name][number].task_id for number in preferences]
        interval = mean_interval(task_ids, score.scores_N.tolist(), bootstrap, seed)
        scored[name] = replace(one, preference_score=score.mean, preference_score_ci95=interval)
    return scored


def pool_rewards(group: GroupSpec, episodes: Sequence[EvalEpisode]) -> np.ndarray:
    """Returns Eq. 1 and 2 over one task's episodes, one of each compared policy, in their order."""
    columns_K = columns(group.toolset, RewardSettings().weights_under(group.preference))
    rows = [
        [
            *(_count(column.key, one) for column in columns_K if column.part is RewardPart.TOOLS),
            float(one.correct),
            usd(one.price_nanousd),
            one.latency_s,
        ]
        for one in episodes
    ]
    return group_rewards(
        np.array(rows),
        np.array([column.weight for column in columns_K]),
        np.array([one.correct for one in episodes]),
        np.array([column.minimise for column in columns_K]),
    )


def _count(key: str, one: EvalEpisode) -> int:
    by_identity = sum(n for name, n in one.calls.items() if is_counted(key, name, ""))
    return by_identity + sum(n for model, n in one.models.items() if is_counted(key, "", model))


def _outcome(one: EvalEpisode, reward: float) -> EpisodeOutcome:
    return EpisodeOutcome(
        task_id=one.task_id,
        correct=one.correct,
        cost_usd=usd(one.price_nanousd),
        latency_s=one.latency_s,
        reward=reward,
        turns=one.turns,
        family=one.family,
        calls=one.calls,
        outcomes=one.outcomes,
    )


def _preference_score(
    own: Episodes, start: Episodes, preferences: Mapping[int, Preference]
) -> PreferenceScore:
    """Returns Eq. 5 and 6 for each task."""
    names = sorted({name for preference in preferences.values() for name in preference.tools})

    def rows(episodes: Episodes) -> np.ndarray:
        return np.array([_features(names, episodes[number]) for number in preferences])

    weights = np.array([weight_row(names, preference) for preference in preferences.values()])
    correct = np.array([own[number].correct for number in preferences])
    return preference_score(rows(own), rows(start), weights, correct)


def _features(names: Sequence[str], one: EvalEpisode) -> np.ndarray:
    calls = {name: _count(name, one) for name in names}
    return feature_row(names, calls, one.correct, one.price_nanousd, one.latency_s)
