"""Rewards over all compared policies' episodes of a task, in closed form."""

from dataclasses import replace

import pytest

from orchestra_ray.core.records import GroupSpec, Preference
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.evaluation.compare import compare
from orchestra_ray.evaluation.episode_log import EvalEpisode

CHEAP = EvalEpisode(0, "t/0", "t", True, 10**9, 1.0, 2, {"a": 1}, {"a": 1})
DEAR = replace(CHEAP, price_nanousd=3 * 10**9, calls={"b": 2}, models={"b": 2})
MIDDLE = replace(CHEAP, price_nanousd=2 * 10**9)
WRONG = replace(DEAR, correct=False)


@pytest.fixture
def group(sampler: GroupSampler) -> GroupSpec:
    return replace(sampler.group(0, 1), preference=Preference("p", "", 1.0, 1.0, 0.0))


def rewards(group: GroupSpec, **played: EvalEpisode) -> dict[str, float]:
    episodes = {name: {0: one} for name, one in played.items()}
    return {name: s.reward for name, s in compare(episodes, {0: group}, 10, 0).items()}


def test_the_reward_is_eq_2_over_the_policies(group: GroupSpec) -> None:
    found = rewards(group, cheap=CHEAP, middle=MIDDLE, dear=DEAR, wrong=WRONG)
    assert found == pytest.approx({"cheap": 2.0, "middle": 1.5, "dear": 1.0, "wrong": 0.0})


def test_calls_of_a_preferred_model_and_of_a_family_count(group: GroupSpec) -> None:
    for key in ("model:b", "family:b"):
        preference = Preference("p", "", 0.0, 0.0, 0.0, {key: 1.0})
        found = rewards(replace(group, preference=preference), cheap=CHEAP, dear=DEAR)
        assert found == pytest.approx({"cheap": 0.0, "dear": 1.0})


def test_only_tasks_in_common_count_and_families_are_told_apart(group: GroupSpec) -> None:
    other = replace(CHEAP, number=1, task_id="u/1", family="u", correct=False)
    played = {"one": {0: CHEAP, 1: other}, "two": {0: DEAR, 1: other, 2: other}}
    found = compare(played, {0: group, 1: group}, 10, 0)
    assert found["one"].accuracy == found["two"].accuracy == 0.5
    assert {name: f.accuracy for name, f in found["one"].by_family.items()} == {"t": 1.0, "u": 0.0}
    assert found["one"].calls == {"a": 1.0}


def test_the_preference_score_is_measured_from_the_start(group: GroupSpec) -> None:
    played = {"before": {0: DEAR}, "after": {0: CHEAP}}
    found = compare(played, {0: group}, 10, 0, start="before")
    # Eq. 5: the outcome 1 / max(1, 1), the cost 300 cents / max(1, 100 cents).
    assert found["after"].preference_score == pytest.approx(1.0 + 3.0)
    assert found["before"].preference_score == pytest.approx(1.0 + 1.0)


@pytest.mark.parametrize("key", ["b", "model:b", "family:b"])
def test_the_preference_score_counts_calls_of_a_model_and_of_a_family(
    group: GroupSpec, key: str
) -> None:
    intended = replace(group, preference=Preference("p", "", 0.0, 0.0, 0.0, {key: 1.0}))
    played = {"before": {0: CHEAP}, "after": {0: DEAR}}
    found = compare(played, {0: intended}, 10, 0, start="before")
    assert found["after"].preference_score == pytest.approx(2.0)  # two calls / max(1, 0)
    assert found["before"].preference_score == 0.0
