"""The registry: the grader of each task, and that any error is a failure of its group."""

import asyncio
import threading
from dataclasses import replace
from typing import Any, get_args

import pytest

from orchestra_ray.config import Config
from orchestra_ray.config.ranges import JudgeName
from orchestra_ray.config.schema import JudgeConfig, TasksConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import FailureKind
from orchestra_ray.core.records import Task
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.files import FileTasks
from orchestra_ray.data.tasks.formats import Problem
from orchestra_ray.data.tasks.reasoning_gym import TaskSource, reference
from orchestra_ray.data.tasks.source import sources
from orchestra_ray.workers.reward.judges import registry as graders
from orchestra_ray.workers.reward.judges.checks import check_graders
from orchestra_ray.workers.reward.judges.registry import (
    NAMES,
    OWN_SCORER,
    GraderInputs,
    GraderRegistry,
    grader_inputs,
)


def task(judge: str, answer: str = "42", **more: Any) -> Task:
    return Task("qa/1", "qa", "What is 6 x 7?", {"answer": answer, "judge": judge, **more})


def judged(made: Any, judging: GraderInputs | None = None) -> Any:
    async def play() -> Any:
        seat = GraderRegistry(judging or GraderInputs())
        try:
            return await seat.verdicts(*made)
        finally:
            await seat.close()

    return asyncio.run(play())


def test_every_judge_of_the_configuration_is_registered() -> None:
    assert set(NAMES) == {*get_args(JudgeName), OWN_SCORER}


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [("exact", " 42", "42.0"), ("number", "$42.00", "43"), ("choice", "(B)", "(A)")],
)
def test_the_task_chooses_its_judge(make_group: Any, name: str, right: str, wrong: str) -> None:
    answer = "B" if name == "choice" else "42"
    verdicts = judged(make_group(task(name, answer), right, wrong, None, right))
    assert [v.correct for v in verdicts] == [True, False, False, True]
    assert verdicts[2].reason == "no answer" and not any(v.entry for v in verdicts)


def test_a_task_of_reasoning_gym_has_its_familys_own_scorer(
    make_group: Any, quickstart: Config
) -> None:
    source = TaskSource.train(quickstart.tasks)
    for family in range(len(source.families)):
        made = source.make(family, 3)
        right = reference(made)
        verdicts = judged(make_group(made, right, f" {right}\n", f"{right}1", "", None))
        assert [v.correct for v in verdicts] == [True, True, False, False, False]


def test_a_judge_that_breaks_is_a_failure_of_the_group(
    make_group: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(task: Task, answer: str) -> bool:
        raise RecursionError(answer)

    monkeypatch.setitem(graders.PLAIN, "exact", broken)
    failure = judged(make_group(task("exact"), "what it said"))
    message = "qa/1: RecursionError: what it said"
    assert (failure.kind, failure.where) == (FailureKind.REWARD, "judge exact")
    assert failure.message == message and failure.permanent
    private = judged(make_group(task("exact", private=True), "what it said"))
    assert private.message == "qa/1: RecursionError"


def test_a_judge_that_hangs_is_a_failure_and_holds_up_no_other(
    make_group: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setitem(graders.PLAIN, "exact", lambda task, answer: released.wait(60))

    async def play() -> Any:
        seat = GraderRegistry(GraderInputs(deadline_s=0.3))
        hanging = asyncio.create_task(seat.verdicts(*make_group(task("exact"), "42")))
        others = [await seat.verdicts(*make_group(task("number"), "42")) for _ in range(3)]
        try:
            return await hanging, others
        finally:
            released.set()
            await seat.close()

    failure, others = asyncio.run(play())
    assert failure.message == "qa/1: no verdicts within 0.3 s"
    assert all(v.correct for verdicts in others for v in verdicts)


@pytest.mark.parametrize("name", ["oracle", "paper"])
def test_a_judge_that_cannot_be_had_is_a_failure_that_names_it(make_group: Any, name: str) -> None:
    failure = judged(make_group(task(name), "42"))
    assert failure.where == f"judge {name}" and "ConfigError" in failure.message


def test_a_record_for_the_scorer_is_made_of_the_configuration(
    quickstart: Config, catalogue: Catalogue
) -> None:
    made = grader_inputs(
        replace(quickstart, judge=JudgeConfig(model="m", tries=5)), catalogue, True
    )
    assert (made.config.model, made.config.tries, made.count_calls) == ("m", 5, True)
    assert made.folder is not None and made.folder.endswith("runs/quickstart")
    assert made.deadline_s < quickstart.reward.deadline_s


def test_what_judges_need_is_looked_at_before_a_run(
    quickstart: Config, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_graders(quickstart, catalogue, sources(quickstart.tasks))
    asks = FileTasks(TasksConfig("jsonl"), [Problem("1", "Q?", "A", judge="paper")])
    with pytest.raises(ConfigError, match=r"judge.model: a task needs an LLM judge"):
        check_graders(quickstart, catalogue, [asks])
    runs = FileTasks(TasksConfig("jsonl"), [Problem("1", "Q?", "", judge="code", tests="pass")])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        ConfigError, match="the grader code runs programs: sandbox: there is no bwrap"
    ):
        check_graders(quickstart, catalogue, [runs])
