from dataclasses import replace
from math import log

import pytest

from orchestra_ray.core.records import Card, EpisodeScore, GroupScore, Preference
from orchestra_ray.core.states import Stop
from orchestra_ray.driver.metrics import group_metrics
from orchestra_ray.driver.selection import Rollout, ScoredGroup
from orchestra_ray.tasks.sampler import GroupSampler

CARD = Card("", "g", Stop.ANSWERED, None, True, 50, 10, 2, 2, 5, 5, 0, 0.0, 0.0, 0.0)
WISH = Preference("p", "", 1.0, 0.5, 0.0, {"nova": 0.5})


def scored(
    sampler: GroupSampler, scores: tuple[EpisodeScore, ...], reason: str | None = None
) -> ScoredGroup:
    spec = replace(sampler.group(0, len(scores)), preference=WISH)
    calls = [{"nova": 3}, {"orbit": 1}]
    rollouts = tuple(
        Rollout(replace(CARD, calls=called), None) for called, _ in zip(calls, scores, strict=True)
    )
    score = GroupScore("g", scores, reason is None, reason=reason)
    return ScoredGroup(spec, 0, rollouts, {}, score, 0.0)


RIGHT = EpisodeScore("a", True, 1.5, 1.0, parts={"outcome": 1.0, "cost": 0.25, "tools": 0.25})
WRONG = EpisodeScore("b", False, 0.0, -1.0, parts={"outcome": 0.0, "cost": 0.0, "tools": 0.0})


def test_a_step_says_where_rewards_are_from_and_what_was_chosen(sampler: GroupSampler) -> None:
    found = group_metrics([scored(sampler, (RIGHT, WRONG))], 1.0)
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
    found = group_metrics(groups, 1.0)
    assert found["groups_kept"] == 0 and found["groups_dropped"] == 3
    assert found["groups_dropped/equal"] == 2 and found["groups_dropped/close"] == 1
    assert "preference/adherence" not in found
