"""Evaluation: reports of failed episodes, of unwritable results and of unscorable answers."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from orchestra_ray.config import Config
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.records import EpisodeSummary, GroupSpec
from orchestra_ray.core.states import Stop
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.private import PRIVATE
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.driver.actor_calls import RunFailed
from orchestra_ray.driver.episode_accounting import Accounting
from orchestra_ray.driver.evaluator import Evaluator
from orchestra_ray.driver.filters import Rollout
from orchestra_ray.driver.worker_group import WorkerGroup
from orchestra_ray.evaluation.episode_log import EpisodeLog
from orchestra_ray.tracking.files import JsonlFile
from orchestra_ray.workers.reward.judges.verdict import Verdict

TASKS = 2


class Private(GroupSampler):
    """Returns the same tasks, marked as private."""

    def group(self, *given: Any, **named: Any) -> GroupSpec:
        group = super().group(*given, **named)
        payload = {**group.task.payload, PRIVATE: True}
        return replace(group, task=replace(group.task, payload=payload))


class Quoting:
    """A worker group without actors: episodes fail, quoting the question, or are correct."""

    def __init__(self, runs: bool = True, grades: bool = True):
        self.runs, self.grades = runs, grades
        self.workers = [0]
        self.events: list[dict[str, Any]] = []

    def on_event(self, kind: str, **fields: Any) -> None:
        self.events.append({"kind": kind, **fields})

    async def run_episodes(
        self, worker: int, spec: GroupSpec
    ) -> tuple[list[Rollout], Mapping[str, Failure]]:
        (episode,) = spec.episodes
        if not self.runs:
            failure = Failure(FailureKind.ENGINE, "gpt", f"400: refused: {spec.task.question}")
            return [], {episode.episode_id: failure}
        summary = EpisodeSummary(
            episode.episode_id, spec.group_id, Stop.ANSWERED, None, True, 9, 3, 1, 1, 0, 0, 5, 1.0,
            1.0, 0.0,
        )  # fmt: skip
        return [Rollout(summary, None)], {}

    async def grade(self, spec: GroupSpec, rollout: Rollout) -> Verdict | Failure:
        if self.grades:
            return Verdict(True, "")
        return Failure(FailureKind.REWARD, "scorer", f"cannot judge {spec.task.question}")


@pytest.fixture
def config(quickstart: Config) -> Config:
    return replace(quickstart, evaluation=replace(quickstart.evaluation, tasks=TASKS))


def evaluator(
    config: Config,
    catalogue: Catalogue,
    worker_group: Quoting,
    sampler: GroupSampler,
    log: EpisodeLog,
) -> Evaluator:
    return Evaluator(config, catalogue, cast(WorkerGroup, worker_group), sampler, Accounting(), log)


@pytest.mark.parametrize("worker_group", [Quoting(runs=False), Quoting(grades=False)])
@pytest.mark.parametrize("private", [True, False])
def test_why_a_private_task_failed_is_reported_by_the_kind_alone(
    config: Config,
    catalogue: Catalogue,
    sampler: GroupSampler,
    tmp_path: Path,
    worker_group: Quoting,
    private: bool,
) -> None:
    worker_group.events.clear()
    questions = [sampler.group(n, 1).task.question for n in range(TASKS)]
    given = sampler
    if private:
        given = Private.__new__(Private)
        given.__dict__.update(sampler.__dict__)
    log = EpisodeLog(tmp_path / "evaluation.jsonl")
    with pytest.raises(RunFailed) as told:
        asyncio.run(
            evaluator(config, catalogue, worker_group, given, log).evaluate("random", "random")
        )
    log.close()
    words = [str(told.value), *(event["message"] for event in worker_group.events)]
    quoted = any(question in word for question in questions for word in words)
    assert worker_group.events and quoted is not private
    if private:
        assert {event["message"] for event in worker_group.events} <= {"engine", "reward"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_result_that_could_not_be_written_is_told_once_an_episode(
    config: Config, catalogue: Catalogue, sampler: GroupSampler, tmp_path: Path
) -> None:
    worker_group, log = Quoting(), EpisodeLog(tmp_path / "evaluation.jsonl")
    log.close()
    log._file = JsonlFile(Path("/dev/full"))
    asyncio.run(
        evaluator(config, catalogue, worker_group, sampler, log).evaluate("random", "random")
    )
    log.close()
    assert [(event["kind"], event["where"]) for event in worker_group.events] == (
        [("failure", "/dev/full")] * TASKS
    )
    assert set(log.done("random")) == set(range(TASKS))  # measured all the same


def test_the_start_of_training_is_compared_without_being_evaluated(
    config: Config, catalogue: Catalogue, sampler: GroupSampler, tmp_path: Path
) -> None:
    worker_group, log = Quoting(), EpisodeLog(tmp_path / "evaluation.jsonl")
    measured = evaluator(config, catalogue, worker_group, sampler, log)
    asyncio.run(measured.evaluate("random", "random"))
    alone = measured.comparison().summaries["random"]
    start = {n: replace(one, correct=False) for n, one in log.done("random").items()}
    measured.adopt("before", start)
    log.close()
    comparison = measured.comparison()
    assert (comparison.tasks, set(comparison.summaries)) == (TASKS, {"random", "before"})
    assert comparison.summaries["before"].accuracy == 0
    assert alone.preference_score is None
    assert comparison.summaries["random"].preference_score > 0
    assert not log.done("before")


def test_answers_that_could_not_be_scored_are_an_event_of_their_policy(
    config: Config, catalogue: Catalogue, sampler: GroupSampler, tmp_path: Path
) -> None:
    class Odd(Quoting):
        async def grade(self, spec: GroupSpec, rollout: Rollout) -> Verdict | Failure:
            return Verdict(False, "the scorer raised ValueError", unscorable=True)

    worker_group, log = Odd(), EpisodeLog(tmp_path / "evaluation.jsonl")
    asyncio.run(
        evaluator(config, catalogue, worker_group, sampler, log).evaluate("random", "random")
    )
    log.close()
    assert worker_group.events == [
        {"kind": "unscorable_answers", "policy": "random", "count": TASKS}
    ]
