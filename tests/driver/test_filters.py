from dataclasses import replace

import pytest

from orchestra_ray.config.enums import Overlong
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.records import EpisodeScore, EpisodeSummary, GroupScore, Part
from orchestra_ray.core.states import Ended, Stop
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.driver.filters import Rollout, ScoredGroup, filter_group

PARTS = (Part(50, 10, 2, True),)
SUMMARY = EpisodeSummary(
    "", "g", Stop.ANSWERED, None, True, 50, 10, 2, 2, 5, 5, 0, 0.0, 0.0, 0.0, {}, PARTS
)


@pytest.fixture
def group(sampler: GroupSampler) -> ScoredGroup:
    spec = sampler.group(0, 3)
    ids = [episode.episode_id for episode in spec.episodes]
    rollouts = tuple(Rollout(replace(SUMMARY, episode_id=i), None) for i in ids)
    scores = tuple(
        EpisodeScore(i, True, 1.0, a) for i, a in zip(ids, (1.0, 0.0, -1.0), strict=True)
    )
    return ScoredGroup(spec, 0, rollouts, {}, GroupScore("g", scores, keep=True), 0.0)


def with_summary(group: ScoredGroup, **changes: object) -> ScoredGroup:
    first, *rest = group.rollouts
    summary = replace(first.summary, **changes)  # type: ignore[arg-type]
    return replace(group, rollouts=(Rollout(summary, None), *rest))


def test_a_good_group_is_trained_whole(group: ScoredGroup) -> None:
    filtered = filter_group(group, stale_before=5)
    assert [episode.advantages for episode in filtered.trainable] == [
        (a, a) for a in (1.0, 0.0, -1.0)
    ]
    assert not filtered.dropped


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"version_min": 4}, Ended.STALE),
        ({"turns": 0, "turns_well_formed": 0, "version_min": -1}, Ended.INVALID),
        ({"answered": False}, Ended.INVALID),
        ({"turns_well_formed": 0, "answered": False}, Ended.FORMAT),
        ({"stop": Stop.LENGTH, "answered": False}, Ended.OVERLONG),
    ],
)
def test_each_filter_has_a_state_of_its_own(
    group: ScoredGroup, changes: dict, state: Ended
) -> None:
    filtered = filter_group(with_summary(group, **changes), stale_before=5)
    assert filtered.dropped == {group.rollouts[0].summary.episode_id: state}
    assert len(filtered.trainable) == 2


@pytest.mark.parametrize("overlong", [Overlong.KEEP, Overlong.PENALISE])
def test_what_a_limit_cut_short_is_trained_where_it_is_wanted(
    group: ScoredGroup, overlong: Overlong
) -> None:
    cut = with_summary(group, stop=Stop.LENGTH, answered=False)
    assert not filter_group(cut, 5, overlong).dropped


def test_a_sequence_out_of_format_is_left_out_of_its_episode(group: ScoredGroup) -> None:
    parts = (Part(50, 10, 1, True), Part(40, 5, 1, False))
    first, *_ = filter_group(with_summary(group, parts=parts), 5).trainable
    assert first.parts == (0,)


def test_a_homogeneous_group_is_dropped_whole(group: ScoredGroup) -> None:
    filtered = filter_group(replace(group, score=replace(group.score, keep=False)), 0)
    assert set(filtered.dropped.values()) == {Ended.HOMOGENEOUS} and not filtered.trainable


def test_what_failed_and_what_could_not_be_scored_is_named(group: ScoredGroup) -> None:
    lost = {"x": Failure(FailureKind.DEADLINE, "worker", "late")}
    unscored = GroupScore("g", (), False, Failure(FailureKind.REWARD, "scorer", "down"))
    filtered = filter_group(replace(group, failed=lost, score=unscored), 0)
    assert filtered.dropped.pop("x") is Ended.FAILED_DEADLINE  # type: ignore[attr-defined]
    assert set(filtered.dropped.values()) == {Ended.FAILED_REWARD}
    assert len(filtered.dropped) == 3


def test_a_response_that_a_limit_cut_is_trained_though_it_kept_no_format(
    group: ScoredGroup,
) -> None:
    parts = (Part(50, 10, 1, True), Part(40, 5, 1, False), Part(40, 5, 1, False))
    cut = with_summary(group, stop=Stop.LENGTH, answered=False, turns_well_formed=0, parts=parts)
    first, *_ = filter_group(cut, 5, Overlong.KEEP).trainable
    assert first.parts == (0, 2)
