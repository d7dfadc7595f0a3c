"""The training loop with actors in this process: totals, failures, and the ends of a run."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, cast

import pytest

from orchestra_ray.config import Config
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.records import EpisodeScore, EpisodeSummary, GroupScore, GroupSpec, Part
from orchestra_ray.core.states import Ended, Stop
from orchestra_ray.data.tasks.private import PRIVATE
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.driver.actor_calls import RunFailed
from orchestra_ray.driver.episode_accounting import Accounting, AccountingError
from orchestra_ray.driver.filters import Rollout, ScoredGroup
from orchestra_ray.driver.loop import Metrics, TrainingLoop
from orchestra_ray.driver.worker_group import WorkerGroup
from orchestra_ray.spend.accounts import RUN_REFUSED, StepTotals
from orchestra_ray.workers.learner.actor import LearnerGroup
from orchestra_ray.workers.learner.parts import TrainingSequence
from orchestra_ray.workers.reward.settings import RewardSettings

PARTS = (Part(50, 10, 2, True),)
SUMMARY = EpisodeSummary(
    "", "g", Stop.ANSWERED, None, True, 50, 10, 2, 2, 9, 9, 0, 0.0, 0.0, 0.0, {}, PARTS
)
DISK = Failure(FailureKind.INFRASTRUCTURE, "ledger", "the disk is full")


class Actors:
    """A worker group and a learner that answer at once; step totals are scripted."""

    def __init__(self, totals: Sequence[StepTotals], trainable: bool = True):
        self.trainable, self.summary = trainable, SUMMARY
        self.workers = {0: None}
        self.reward = RewardSettings()
        self.totals = list(totals)
        self.closed: list[int] = []

    async def run_and_score(self, worker: int, spec: GroupSpec) -> ScoredGroup:
        ids = [episode.episode_id for episode in spec.episodes]
        rollouts = tuple(Rollout(replace(self.summary, episode_id=i), cast(Any, None)) for i in ids)
        scores = tuple(EpisodeScore(i, True, 1.0, 1.0) for i in ids)
        return ScoredGroup(spec, worker, rollouts, {}, GroupScore("g", scores, self.trainable), 0.0)

    async def train(self, sequences: Sequence[TrainingSequence]) -> Metrics:
        return {"loss": 0.0}

    async def publish(self, version: int) -> Metrics:
        return {}

    async def update_weights(self, version: int) -> Metrics:
        return {}

    async def close_step(self, step: int) -> StepTotals:
        self.closed.append(step)
        return self.totals[len(self.closed) - 1]

    async def peak_mib(self) -> Mapping[str, float]:
        return {}


def train(
    quickstart: Config,
    sampler: GroupSampler,
    actors: Actors,
    steps: int,
    accounting: Accounting | None = None,
    sampling_factor: int = 1,
) -> tuple[list[Metrics], list[tuple[str, dict[str, Any]]], Accounting]:
    small = replace(
        quickstart.training,
        steps=steps,
        groups_per_step=2,
        group_size=2,
        sampling_factor=sampling_factor,
    )
    reached: list[Metrics] = []
    events: list[tuple[str, dict[str, Any]]] = []
    accounting, fresh = accounting or Accounting(), copy(sampler)
    fresh.cursor = 0
    loop = TrainingLoop(
        replace(quickstart, training=small),
        fresh,
        cast(WorkerGroup, actors),
        cast(LearnerGroup, actors),
        accounting,
        lambda kind, **fields: events.append((kind, fields)),
    )

    async def on_step(step: int, metrics: Metrics) -> None:
        assert step == len(reached) + 1
        reached.append(metrics)

    asyncio.run(loop.run(on_step))
    return reached, events, accounting


def test_step_totals_are_metrics_and_their_failures_events(
    quickstart: Config, sampler: GroupSampler
) -> None:
    actors = Actors([StepTotals({"ledger/unwritten": 3.0}, (DISK,)), StepTotals({}, ())])
    reached, events, _ = train(quickstart, sampler, actors, steps=2)
    assert reached[0]["ledger/unwritten"] == 3.0 and len(reached) == 2
    fields = {"failure": "infrastructure", "where": "ledger", "message": "the disk is full"}
    assert events == [("failure", fields)]
    assert actors.closed == [0, 1]


class Quoting(Actors):
    """No group is scored, for a reason that quotes the task."""

    def __init__(self, private: bool):
        super().__init__([StepTotals({}, ())])
        self.private = private

    async def run_and_score(self, worker: int, spec: GroupSpec) -> ScoredGroup:
        payload = {**spec.task.payload, PRIVATE: self.private}
        spec = replace(spec, task=replace(spec.task, payload=payload))
        group = await super().run_and_score(worker, spec)
        failure = Failure(FailureKind.REWARD, "scorer", f"cannot read {spec.task.question}")
        return replace(group, score=GroupScore("g", (), False, failure))


@pytest.mark.parametrize("private", [False, True])
def test_what_failed_on_a_private_task_is_reported_without_its_words(
    quickstart: Config, sampler: GroupSampler, private: bool
) -> None:
    reached, events, _ = train(quickstart, sampler, Quoting(private), steps=1)
    messages = [fields["message"] for _, fields in events]
    assert [message == "reward" for message in messages] == [private] * 2
    assert [message.startswith("cannot read") for message in messages] == [not private] * 2
    assert reached[0]["groups_dropped/failed_reward"] == 2


def test_training_ends_after_the_step_in_which_the_budget_of_the_run_was_spent(
    quickstart: Config, sampler: GroupSampler
) -> None:
    totals = [StepTotals({RUN_REFUSED: refused}, ()) for refused in (0.0, 1.0, 1.0)]
    reached, _, accounting = train(quickstart, sampler, Actors(totals), steps=3)
    assert len(reached) == 2 and reached[-1]["trained_episodes"] == 4
    assert accounting.metrics()[f"accounting/{Ended.TRAINED.value}"] == 8


class Forgetful(Accounting):
    """A bug in the driver: the end of its first episode is not recorded."""

    def end(self, episode_id: str, state: Ended) -> None:
        if episode_id == "train/0/0":
            self._in_flight.discard(episode_id)
        else:
            super().end(episode_id, state)


def test_an_accounting_error_stops_the_run_before_the_step_is_reported(
    quickstart: Config, sampler: GroupSampler
) -> None:
    actors, accounting = Actors([]), Forgetful()
    with pytest.raises(AccountingError, match=r"^dispatched 4 != ended 3 \+ in flight 0$"):
        train(quickstart, sampler, actors, steps=2, accounting=accounting)
    assert actors.closed == []


def test_groups_that_are_not_trainable_are_not_made_up_for_without_a_sampling_factor(
    quickstart: Config, sampler: GroupSampler
) -> None:
    actors = Actors([StepTotals({}, ())] * 2, trainable=False)
    reached, _, accounting = train(quickstart, sampler, actors, steps=2)
    assert [metrics["trained_episodes"] for metrics in reached] == [0, 0]
    assert (accounting.dispatched, accounting.in_flight) == (8, 0)


class Breaking(Actors):
    """Every episode fails, with the failure that `why` returns."""

    def __init__(self, why: Callable[[str], Failure], steps: int):
        super().__init__([StepTotals({}, ())] * steps)
        self.why = why

    async def run_and_score(self, worker: int, spec: GroupSpec) -> ScoredGroup:
        failed = {e.episode_id: self.why(e.episode_id) for e in spec.episodes}
        score = GroupScore(spec.group_id, (), False)
        return ScoredGroup(spec, worker, (), failed, score, 0.0)


def without_think(episode_id: str) -> Failure:
    return Failure(
        FailureKind.INFRASTRUCTURE, f"episode {episode_id}", "KeyError: '<think>'", permanent=True
    )


def test_a_step_whose_episodes_fail_for_one_permanent_reason_ends_the_run(
    quickstart: Config, sampler: GroupSampler
) -> None:
    actors, accounting = Breaking(without_think, steps=1), Accounting()
    with pytest.raises(RunFailed, match="^step 1: every one of 4 .*KeyError: '<think>'") as caught:
        train(quickstart, sampler, actors, steps=3, accounting=accounting)
    assert "\n" not in str(caught.value) and len(actors.closed) == 1
    assert accounting.metrics()["accounting/failed_infrastructure"] == 4


def test_an_outage_ends_the_run_after_the_idle_steps_that_are_allowed(
    quickstart: Config, sampler: GroupSampler
) -> None:
    allowed = replace(quickstart, training=replace(quickstart.training, idle_steps_max=3))
    silent = Failure(FailureKind.ENGINE, "expert", "connection refused")
    actors = Breaking(lambda _: silent, steps=5)
    with pytest.raises(RunFailed) as caught:
        train(allowed, sampler, actors, steps=5)
    line = str(caught.value)
    assert line.startswith("3 steps in a row trained nothing (training.idle_steps_max): ")
    assert "6 failed_engine; 12 of 12 episodes failed: 12 engine (connection refused)" in line
    assert len(actors.closed) == 3


@pytest.mark.parametrize("never", [0, None])
def test_without_a_limit_idle_steps_go_on(
    quickstart: Config, sampler: GroupSampler, never: int | None
) -> None:
    endless = replace(quickstart, training=replace(quickstart.training, idle_steps_max=never))
    actors = Actors([StepTotals({}, ())] * 30, trainable=False)
    reached, _, _ = train(endless, sampler, actors, steps=30)
    assert len(reached) == 30


class EverySecondTeaches(Actors):
    """Every second group is not trainable."""

    async def run_and_score(self, worker: int, spec: GroupSpec) -> ScoredGroup:
        group = await super().run_and_score(worker, spec)
        return replace(group, score=replace(group.score, keep=int(spec.group_id[6:]) % 2 == 0))


def test_dynamic_sampling_goes_on_until_enough_groups_are_trainable(
    quickstart: Config, sampler: GroupSampler
) -> None:
    actors = EverySecondTeaches([StepTotals({}, ())] * 2)
    reached, _, accounting = train(quickstart, sampler, actors, steps=2, sampling_factor=3)
    assert [metrics["trained_episodes"] for metrics in reached] == [4, 4]
    assert [metrics["groups_dropped"] for metrics in reached] == [1, 2]
    assert accounting.metrics()[f"accounting/{Ended.HOMOGENEOUS.value}"] == 6
    assert (accounting.dispatched, accounting.in_flight) == (14, 0)


def test_dynamic_sampling_ends_at_its_factor(quickstart: Config, sampler: GroupSampler) -> None:
    actors = Actors([StepTotals({}, ())], trainable=False)
    reached, _, accounting = train(quickstart, sampler, actors, steps=1, sampling_factor=3)
    assert (reached[0]["trained_episodes"], reached[0]["groups_dropped"]) == (0, 6)
    assert (accounting.dispatched, accounting.in_flight) == (12, 0)


@pytest.mark.parametrize(
    ("spent_usd", "expected"), [(3, [0.7, 0.9]), (1, [0.5, 0.5]), (0, [0.4, 0.3])]
)
def test_the_multiplier_of_a_budget_follows_what_the_episodes_cost(
    quickstart: Config, sampler: GroupSampler, spent_usd: int, expected: list[float]
) -> None:
    actors = Actors([StepTotals({}, ())] * 2)
    actors.summary = replace(SUMMARY, price_nanousd=spent_usd * 10**9)
    actors.reward = RewardSettings(combination="budgeted", budget_usd=1.0, multiplier=0.5)
    assert quickstart.reward.multiplier_rate == 0.1
    reached, _, _ = train(quickstart, sampler, actors, steps=2)
    assert [metrics["reward/multiplier"] for metrics in reached] == pytest.approx(expected)
    assert actors.reward.multiplier == pytest.approx(expected[-1])
