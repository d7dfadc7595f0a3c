"""Tasks of reasoning-gym: an odd answer is wrong alone; a broken task is a failure of its group."""

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from reasoning_gym import get_score_answer_fn

from orchestra_ray.config import Config
from orchestra_ray.config.schema import FamilyConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import Task
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks import reasoning_gym as tasks
from orchestra_ray.data.tasks.checked_families import CHECKED_FAMILIES
from orchestra_ray.data.tasks.reasoning_gym import TaskSource, reference, score_here
from orchestra_ray.data.tasks.scoring import (
    MOST_CHARACTERS,
    BrokenTask,
    Scored,
    rejection_reason,
    score_of,
)
from orchestra_ray.workers.reward.judges.checks import check_graders
from orchestra_ray.workers.reward.judges.registry import GraderInputs, GraderRegistry

FAMILIES = sorted(CHECKED_FAMILIES)
TASKS = [TaskSource([FamilyConfig(name=name)], 5, 2).make(0, 0) for name in FAMILIES]
ODD = [
    *("", " ", "1/0", "nan", "[NaN]", "inf", "-inf", "1e999999999", "None", "×", "2×", "×2", "2x3"),
    *(
        "9" * 5000,
        "9" * 200_000,
        "9×" * 20_000,
        "\ud800",
        "\x00",
        "\u0663",
        "²",
        "1_0",
        "٣×٣",
        "-1",
    ),
    *("[" * 50_000, "[" * 50_000 + "]" * 50_000, "{}", "[[]]", "[{}]", '{"a": 1}', "null", "1e400"),
    *(
        "1,2",
        ",",
        "=",
        "A=1",
        "A=" + "9" * 5000,
        "12:99",
        "1 days, 1",
        "-5",
        "1" * 400,
        "\n\n",
        "0",
    ),
]


def judged(group: Any) -> Any:
    async def play() -> Any:
        seat = GraderRegistry(GraderInputs())
        try:
            return await seat.verdicts(*group)
        finally:
            await seat.close()

    return asyncio.run(play())


def test_an_odd_answer_to_a_factorisation_is_wrong_alone(make_group: Any) -> None:
    task = TaskSource([FamilyConfig(name="prime_factorization")], 0, 8).make(0, 1)
    right = reference(task)
    verdicts = judged(make_group(task, right, *ODD, None, right))
    assert [v.correct for v in verdicts] == [True, *[False] * (len(ODD) + 1), True]
    unscorable = {said for said, v in zip(ODD, verdicts[1:], strict=False) if v.unscorable}
    assert {"1/0", "nan", "2x3", "9" * 5000, "²", "\ud800"} <= unscorable
    assert not verdicts[0].unscorable and not verdicts[-2].unscorable


@pytest.mark.parametrize("task", TASKS, ids=FAMILIES)
def test_no_odd_answer_spoils_a_listed_family(task: Task) -> None:
    """None raises; and what is no number is no right number."""
    for answer in ODD:
        assert isinstance(score_here(task, answer), Scored)
    assert not score_here(task, "nan").correct and not score_here(task, "\x00").correct
    assert score_here(task, reference(task)).correct or task.payload["answer"] is None


@given(st.sampled_from(TASKS), st.text() | st.text("0123456789.,-+/×e[]{}:=\n \"'()") | st.just(""))
@settings(max_examples=400, deadline=None)
def test_no_text_spoils_a_listed_family(task: Task, answer: str) -> None:
    assert isinstance(score_here(task, answer), Scored)


@given(st.integers(0, 7), st.text("0123456789.,+-e/ nan") | st.text())
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_the_quick_starts_families_keep_their_scorers_verdict(
    quickstart: Config, family: int, answer: str
) -> None:
    task = TaskSource.train(quickstart.tasks).make(family, 3)
    scorer: Any = get_score_answer_fn(task.family)
    for said in (answer, reference(task), f"{answer}{reference(task)}"):
        assert score_here(task, said).correct == (scorer(said.strip(), task.payload) >= 1.0)


@pytest.mark.parametrize(
    "answer", ["nan", "NaN", "nanj", "1 + nanj", "nani", "(nan-1j)", "n a nj", "sNaN1", "[nan, 1]"]
)
def test_what_is_no_number_is_not_the_number_that_was_asked_for(answer: str) -> None:
    """A comparison by tolerance takes it for right: in complex_arithmetic, for one."""
    assert rejection_reason(answer, "3.0 - 2.0i") == "not a number"
    assert (
        rejection_reason(answer, "banana") is None
        and rejection_reason("nancy: 1", "nancy: 2") is None
    )


def test_a_task_whose_reference_breaks_its_scorer_is_a_failure(make_group: Any) -> None:
    made = TaskSource([FamilyConfig(name="prime_factorization")], 0, 8).make(0, 1)
    broken = Task(made.task_id, made.family, made.question, {**made.payload, "answer": "two"})
    failure = judged(make_group(broken, "2", "junk"))
    assert isinstance(failure, Failure) and failure.where == "judge reasoning_gym"
    assert failure.message.startswith(f"{made.task_id}: its reference cannot be scored")


@pytest.mark.parametrize("given_score", [float("nan"), float("inf"), -0.1, 1.5, None, "1.0", 1j])
def test_a_score_that_is_no_number_from_0_to_1_is_wrong_and_counted(
    make_group: Any, monkeypatch: pytest.MonkeyPatch, given_score: Any
) -> None:
    task = TASKS[FAMILIES.index("gcd")]
    right = reference(task)

    def scorer(answer: str, entry: Any) -> Any:
        return 1.0 if answer == right else given_score

    monkeypatch.setattr(tasks, "_scorer", lambda family: scorer)
    good, odd = judged(make_group(task, right, "junk"))
    assert good.correct and not odd.correct and odd.unscorable
    monkeypatch.setattr(tasks, "_scorer", lambda family: lambda answer, entry: given_score)
    with pytest.raises(BrokenTask):
        score_here(task, right)


@given(st.floats() | st.integers() | st.booleans() | st.text() | st.none() | st.complex_numbers())
@example(1.0000000000000002)
@example(10**400)
def test_a_score_is_a_number_from_0_to_1(given_score: Any) -> None:
    score = score_of(given_score)
    assert score is None or 0.0 <= score <= 1.0


def test_what_is_longer_than_any_answer_is_wrong(make_group: Any) -> None:
    task = TASKS[FAMILIES.index("chain_sum")]
    right = reference(task)
    long, fits = judged(make_group(task, right + "." + "0" * MOST_CHARACTERS, right + ".000"))
    assert not long.correct and long.unscorable and fits.correct


def test_a_family_that_is_not_checked_is_not_scored_in_this_process() -> None:
    task = TaskSource([FamilyConfig(name="n_queens")], 0, 2).make(0, 0)
    with pytest.raises(ValueError, match="n_queens: its scorer is not checked"):
        score_here(task, reference(task))


def test_a_family_that_is_not_checked_is_judged_in_the_sandbox(
    make_group: Any, sandbox_here: None
) -> None:
    task = TaskSource([FamilyConfig(name="countdown")], 0, 2).make(0, 0)
    verdicts = judged(make_group(task, reference(task), "__import__('os')._exit(0)", None))
    assert [v.correct for v in verdicts] == [True, False, False]
    assert [v.unscorable for v in verdicts] == [False, True, False]


@pytest.mark.parametrize(
    ("family", "junk"), [("game_of_life_halting", "any answer"), ("coin_flip", "0")]
)
def test_a_family_whose_scorer_takes_junk_for_right_is_refused(
    quickstart: Config, catalogue: Catalogue, family: str, junk: str
) -> None:
    source = TaskSource([FamilyConfig(name=name) for name in ("gcd", family)], 0, 2)
    line = f"tasks.families: {family}: its scorer accepts {junk} as right; leave it out"
    with pytest.raises(ConfigError, match=line):
        check_graders(quickstart, catalogue, [source])


def test_without_a_sandbox_a_family_that_needs_it_is_refused_and_fails(
    make_group: Any, quickstart: Config, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    source = TaskSource([FamilyConfig(name=name) for name in ("gcd", "countdown")], 0, 2)
    with pytest.raises(ConfigError, match="tasks.families: countdown: .*no bwrap; apt install"):
        check_graders(quickstart, catalogue, [source])
    check_graders(quickstart, catalogue, [TaskSource.train(quickstart.tasks)])
    task = source.make(1, 0)
    failure = judged(make_group(task, reference(task)))
    assert isinstance(failure, Failure) and "no bwrap" in failure.message
