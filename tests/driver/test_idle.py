"""The ends of runs by steps that train nothing, and the line that explains them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.records import GroupScore, GroupSpec
from orchestra_ray.data.tasks.private import PRIVATE
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.driver.filters import ScoredGroup
from orchestra_ray.driver.idle import IdleSteps, Reasons, reason_of

TRAINED = {"trained_episodes": 4, "groups_kept": 2, "groups_dropped": 0}
WRONG = {
    "trained_episodes": 0,
    "groups_kept": 0,
    "groups_dropped": 2,
    "groups_dropped/all_wrong": 2,
}
OUTAGE = Failure(FailureKind.REWARD, "judge", "the judge does not answer")
BUG = Failure(FailureKind.INFRASTRUCTURE, "episode train/0/0", "KeyError: 'x'", permanent=True)


def broken(spec: GroupSpec, failures: Sequence[Failure]) -> ScoredGroup:
    failed = {e.episode_id: failures[n % len(failures)] for n, e in enumerate(spec.episodes)}
    return ScoredGroup(spec, 0, (), failed, GroupScore(spec.group_id, (), False), 0.0)


@pytest.fixture
def specs(sampler: GroupSampler) -> list[GroupSpec]:
    return [sampler.group(n, 4) for n in range(3)]


@given(st.integers(1, 6), st.lists(st.booleans(), max_size=30))
def test_a_run_ends_with_the_first_full_row_of_idle_steps(limit: int, steps: list[bool]) -> None:
    idle, row = IdleSteps(limit), 0
    for step, trains in enumerate(steps, 1):
        idle.after(step, [], TRAINED if trains else WRONG)
        row = 0 if trains else row + 1
        assert (idle.ending is not None) is (row >= limit)
        if idle.ending is not None:
            assert idle.ending.startswith(f"{limit} steps in a row")
            assert f"groups dropped: {2 * limit} all_wrong" in idle.ending
            break
    else:
        assert (idle.nothing_trained() is None) is (any(steps) or not steps)


def test_a_step_without_a_gradient_trains_nothing() -> None:
    idle = IdleSteps(2)
    for step in (1, 2):
        idle.after(step, [], TRAINED | {"grad_norm": 0.0})
    assert idle.ending is not None and "4 zero gradient" in idle.ending
    assert "learner.loss" in idle.ending


def test_the_end_of_a_short_run_says_that_nothing_was_trained(specs: list[GroupSpec]) -> None:
    idle = IdleSteps(20)
    assert idle.nothing_trained() is None
    groups = [broken(spec, [OUTAGE]) for spec in specs]
    dropped = {"groups_dropped": 3, "groups_dropped/failed_reward": 3}
    idle.after(1, groups, dropped)
    idle.after(2, groups, dropped)
    line = idle.nothing_trained()
    assert line is not None and idle.ending is None
    assert line.startswith("nothing was trained in 2 steps: groups dropped: 6 failed_reward")
    assert "24 of 24 episodes failed: 24 reward (the judge does not answer)" in line
    assert "events.jsonl" in line and "\n" not in line


def bug_of(spec: GroupSpec, n: int) -> Failure:
    episode_id = spec.episodes[n].episode_id
    message = f"{spec.task.task_id}: KeyError: '<think>' in {episode_id} of <X at 0x7f{n}a>"
    return replace(BUG, where=f"episode {episode_id}", message=message)


def test_failures_that_differ_by_ids_have_one_reason(specs: list[GroupSpec]) -> None:
    idle = IdleSteps(None)
    groups = [broken(spec, [bug_of(spec, n) for n in range(4)]) for spec in specs]
    idle.after(5, groups, {"groups_dropped": 3})
    assert idle.ending is not None
    assert idle.ending.startswith("step 5: every one of 12 episodes failed for one reason")
    assert "12 infrastructure (" in idle.ending and "KeyError: '<think>'" in idle.ending


def test_a_bug_that_meets_other_words_in_every_episode_is_one_reason(
    specs: list[GroupSpec],
) -> None:
    idle = IdleSteps(None)
    met = [replace(BUG, message=f"t/1: JSONDecodeError: at {word!r}") for word in ("foo", "b a r")]
    idle.after(1, [broken(spec, met) for spec in specs], {"groups_dropped": 3})
    assert idle.ending is not None and "JSONDecodeError" in idle.ending


@pytest.mark.parametrize(
    "others",
    [
        [replace(BUG, permanent=False)],
        [OUTAGE],
        [replace(BUG, message="TypeError: 'x'")],
        [replace(BUG, kind=FailureKind.REWARD)],
    ],
)
def test_a_step_ends_the_run_only_if_all_fail_for_one_permanent_reason(
    specs: list[GroupSpec], others: list[Failure]
) -> None:
    idle = IdleSteps(None)
    idle.after(1, [broken(spec, [BUG, *others]) for spec in specs], {"groups_dropped": 3})
    assert idle.ending is None
    idle.after(2, [broken(spec, [BUG]) for spec in specs], {"groups_dropped": 3})
    assert idle.ending is not None


def test_a_bug_of_some_episodes_does_not_end_a_run(specs: list[GroupSpec]) -> None:
    idle, first = IdleSteps(None), broken(specs[0], [BUG])
    some = replace(first, failed=dict(list(first.failed.items())[:3]))
    idle.after(1, [some], {"groups_dropped": 1})
    assert idle.ending is None


def test_a_scorer_with_a_bug_ends_the_run(specs: list[GroupSpec]) -> None:
    idle, groups = IdleSteps(None), []
    for spec in specs:
        failure = Failure(
            FailureKind.REWARD, "RewardScorer", f"{spec.task.task_id}: TypeError: x", True
        )
        rollouts = cast(Any, (None,) * 4)
        score = GroupScore(spec.group_id, (), False, failure)
        groups.append(ScoredGroup(spec, 0, rollouts, {}, score, 0.0))
    idle.after(1, groups, {"groups_dropped": 3})
    assert idle.ending is not None and "TypeError: x" in idle.ending


@pytest.mark.parametrize("permanent", [True, False])
def test_no_word_of_a_private_task_is_told(specs: list[GroupSpec], permanent: bool) -> None:
    idle, groups = IdleSteps(1), []
    for spec in specs:
        task = replace(spec.task, payload={**spec.task.payload, PRIVATE: True})
        failure = replace(BUG, message=f"ValueError: {task.question}", permanent=permanent)
        groups.append(broken(replace(spec, task=task), [failure]))
    idle.after(1, groups, {"groups_dropped": 3})
    assert idle.ending is not None and "ValueError" in idle.ending
    assert all(spec.task.question.splitlines()[-1] not in idle.ending for spec in specs)


def test_a_long_word_is_read_once() -> None:
    """Quadratic time in the length would not end here."""
    words = "题" * 300_000
    failure = replace(BUG, message=f"{words} t/7: {words}", permanent=False)
    assert reason_of(failure).message == f"{words} #: {words}"
    assert reason_of(replace(BUG, message="a." * 150_000)).message == "a." * 150_000


@given(st.uuids(), st.uuids(), st.integers(), st.integers())
def test_ids_of_any_kind_make_no_reason_of_their_own(a: Any, b: Any, m: int, n: int) -> None:
    one, other = (
        replace(BUG, message=f"task {uuid}/{number}: KeyError: 'x' at {hex(abs(number))}")
        for uuid, number in ((a, abs(m)), (b, abs(n)))
    )
    assert reason_of(one) == reason_of(other)


def test_a_long_message_of_many_lines_stays_a_part_of_one_line(specs: list[GroupSpec]) -> None:
    idle = IdleSteps(None)
    long = replace(BUG, message="TypeError: a\nb" + "c" * 10_000)
    idle.after(1, [broken(spec, [long]) for spec in specs], {"groups_dropped": 3})
    assert idle.ending is not None and "TypeError: a bccc" in idle.ending
    assert "\n" not in idle.ending and len(idle.ending) < 600


def test_the_commonest_message_of_each_kind_is_named() -> None:
    reasons = Reasons()
    slow = Failure(FailureKind.DEADLINE, "episode", "ran past 9 s")
    for failure in [OUTAGE, slow, slow, BUG, replace(OUTAGE, message="no judge"), OUTAGE]:
        reasons.add(failure)
    words = "3 reward (the judge does not answer), 2 deadline (ran past 9 s)"
    assert reasons.summary() == f"{words}, 1 infrastructure (KeyError: 'x')"
