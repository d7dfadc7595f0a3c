from dataclasses import replace
from math import log

import pytest

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.records import EpisodeScore, EpisodeSummary, GroupScore, Preference
from orchestra_ray.core.states import Stop
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.driver.filters import Rollout, ScoredGroup, filter_group
from orchestra_ray.driver.metrics import filter_metrics, group_metrics

SUMMARY = EpisodeSummary("", "g", Stop.ANSWERED, None, True, 50, 10, 2, 2, 5, 5, 0, 0.0, 0.0, 0.0)
WISH = Preference("p", "", 1.0, 0.5, 0.0, {"nova": 0.5})


def scored(
    sampler: GroupSampler, scores: tuple[EpisodeScore, ...], reason: str | None = None
) -> ScoredGroup:
    spec = replace(sampler.group(0, len(scores)), preference=WISH)
    calls = [{"nova": 3}, {"orbit": 1}]
    rollouts = tuple(
        Rollout(replace(SUMMARY, episode_id=one.episode_id, calls=called), None)
        for called, one in zip(calls, scores, strict=True)
    )
    score = GroupScore("g", scores, reason is None, reason=reason)
    return ScoredGroup(spec, 0, rollouts, {}, score, 0.0)


RIGHT = EpisodeScore("a", True, 1.5, 1.0, parts={"outcome": 1.0, "cost": 0.25, "tools": 0.25})
WRONG = EpisodeScore("b", False, 0.0, -1.0, parts={"outcome": 0.0, "cost": 0.0, "tools": 0.0})


def test_a_step_says_where_rewards_are_from_and_what_was_chosen(sampler: GroupSampler) -> None:
    found = group_metrics([scored(sampler, (RIGHT, WRONG))])
    assert (found["reward/outcome"], found["reward/cost"], found["reward/tools"]) == (
        0.5,
        0.125,
        0.125,
    )
    assert found["choice/top_share"] == 0.75
    assert found["choice/entropy"] == pytest.approx(-(0.75 * log(0.75) + 0.25 * log(0.25)))
    assert found["preference/adherence"] == pytest.approx(0.5)


def test_dropped_groups_are_counted_by_reason_and_say_nothing_of_preferences(
    sampler: GroupSampler,
) -> None:
    groups = [scored(sampler, (RIGHT, WRONG), reason) for reason in ("equal", "equal", "close")]
    found = filter_metrics(groups, [filter_group(group, 0) for group in groups])
    assert found["groups_kept"] == 0 and found["groups_dropped"] == 3
    assert found["groups_dropped/equal"] == 2 and found["groups_dropped/close"] == 1
    assert found["dropped/filtered_homogeneous_turns"] == 3 * 2 * 2
    assert found["dropped/filtered_homogeneous_tokens"] == 3 * 2 * 10
    assert "preference/adherence" not in group_metrics(groups)


def test_what_the_filters_drop_of_a_group_is_counted_by_state(sampler: GroupSampler) -> None:
    whole = scored(sampler, (RIGHT, WRONG))
    silent = replace(SUMMARY, answered=False, turns=3, response_tokens=7)
    first, second = whole.rollouts
    half = replace(whole, rollouts=(replace(first, summary=silent), second))
    none = replace(whole, rollouts=tuple(replace(one, summary=silent) for one in whole.rollouts))
    groups = [whole, half, none]
    found = filter_metrics(groups, [filter_group(group, 0) for group in groups])
    assert found == {
        "groups_kept": 2,
        "groups_dropped": 1,
        "groups_dropped/filtered_invalid": 1,
        "dropped/filtered_invalid_turns": 9,
        "dropped/filtered_invalid_tokens": 21,
    }


def test_a_group_whose_score_failed_is_dropped_as_failed(sampler: GroupSampler) -> None:
    failure = Failure(FailureKind.REWARD, "scorer", "no score")
    group = scored(sampler, (RIGHT, WRONG))
    group = replace(group, score=GroupScore("g", (), False, failure))
    found = filter_metrics([group], [filter_group(group, 0)])
    assert found["groups_dropped/failed_reward"] == 1 == found["groups_dropped"]
    assert group_metrics([group]) == {}


def test_answers_that_could_not_be_scored_are_counted_where_there_are_any(
    sampler: GroupSampler,
) -> None:
    group = scored(sampler, (RIGHT, WRONG))
    odd = replace(group, score=replace(group.score, unscorable=2))
    assert "unscorable_answers" not in group_metrics([group])
    assert group_metrics([odd, group, odd])["unscorable_answers"] == 4
