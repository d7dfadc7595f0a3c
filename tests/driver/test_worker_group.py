"""The real actors of a run as the driver sees them: in flight, under an update, and at a death."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import psutil
import pytest
import ray
import torch
from ray.exceptions import RayError
from transformers import AutoConfig, AutoModelForCausalLM

from orchestra_ray.config import Config
from orchestra_ray.core.faults import FailureKind
from orchestra_ray.core.process_log import ProcessLog
from orchestra_ray.core.records import GroupSpec, Trajectory
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.private import PRIVATE
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.driver.actor_calls import RunFailed
from orchestra_ray.driver.worker_group import WorkerGroup
from orchestra_ray.weights.actor import RegistryHandle, publish, start_registry

pytestmark = [pytest.mark.cpu, pytest.mark.timeout(300)]
T = TypeVar("T")
DEADLINE_S = 120.0
EPISODES = 48


@dataclass
class Started:
    worker_group: WorkerGroup
    registry: RegistryHandle
    events: list[dict[str, Any]]
    runner: asyncio.Runner

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(work, DEADLINE_S))


@pytest.fixture(scope="module")
def started(
    ray_cluster: str,
    quickstart: Config,
    catalogue: Catalogue,
    policy_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Started]:
    """Two workers, so that one can be lost."""
    limits = replace(
        quickstart.rollout, workers=2, cpus_per_worker=0.25, max_response_tokens=256, max_turns=1
    )
    events: list[dict[str, Any]] = []
    registry = start_registry()
    worker_group = WorkerGroup(
        replace(quickstart, rollout=limits),
        catalogue,
        str(policy_folder),
        tmp_path_factory.mktemp("run"),
        lambda kind, **fields: events.append({"kind": kind, **fields}),
    )
    with asyncio.Runner() as runner:
        runner.run(worker_group.start(ray_cluster, "tests", registry))
        yield Started(worker_group, registry, events, runner)
        runner.run(worker_group.stop())
    ray.kill(registry.actor)


def test_step_totals_name_the_state_of_the_pool_and_processes_that_did_not_drain(
    started: Started, tmp_path: Path
) -> None:
    worker_group, release = started.worker_group, tmp_path / "release"

    def hang(_: object) -> None:
        import time

        while not release.exists():
            time.sleep(0.01)

    closed = started.run(worker_group.close_step(0))
    assert closed.failures == () and closed.totals["executors/down"] == 0
    assert closed.totals["executors/live"] == len(worker_group.executors)
    hung = worker_group.executors[0].__ray_call__.remote(hang)
    (failure,) = started.run(worker_group.close_step(0, deadline_s=1.0)).failures
    assert (failure.kind, failure.where) == (FailureKind.INFRASTRUCTURE, "tool executor 0")
    assert failure.message == "its settlements: no answer within 1 s"
    release.touch()
    ray.get(hung)
    assert started.run(worker_group.close_step(0)).failures == ()


def long_group(sampler: GroupSampler, n: int) -> GroupSpec:
    return sampler.group(n, EPISODES, prefix="crew")


async def some_ended(worker_group: WorkerGroup, streams: int) -> None:
    """Waits for the first summary of each of the next `streams`; the others are in flight."""
    stream, first, left = worker_group._stream, asyncio.Event(), streams

    async def telling(worker: int, spec: GroupSpec) -> AsyncIterator[Any]:
        nonlocal left
        seen = False
        async for item in stream(worker, spec):
            left -= not seen
            seen = True
            if left == 0:
                first.set()
            yield item

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker_group, "_stream", telling)
        await first.wait()


def test_an_update_reaches_workers_whose_episodes_are_in_flight(
    started: Started, sampler: GroupSampler, policy_folder: Path
) -> None:
    worker_group = started.worker_group
    model = AutoModelForCausalLM.from_pretrained(policy_folder, dtype=torch.float32)
    publish(started.registry.actor, 1, model.named_parameters(), 2**20, DEADLINE_S)

    async def main() -> list[Any]:
        playing = [
            asyncio.create_task(worker_group.run_episodes(worker, long_group(sampler, worker)))
            for worker in (0, 1)
        ]
        await some_ended(worker_group, 2)
        assert not any(task.done() for task in playing)
        seconds = await worker_group.update_weights(1)
        assert set(seconds) == {"pause_s", "load_s", "resume_s"}
        return await asyncio.gather(*playing)

    for rollouts, failed in started.run(main()):
        assert not failed and len(rollouts) == EPISODES
        crossed = [r for r in rollouts if (r.summary.version_min, r.summary.version_max) == (0, 1)]
        assert crossed
        trajectory: Trajectory = ray.get(crossed[0].ref)
        versions = trajectory.versions_T[trajectory.mask_T]
        assert (versions[:-1] <= versions[1:]).all() and set(versions) == {0, 1}
    assert not started.events


def says(_: object) -> None:
    """As the last words of the process that it runs in."""
    print("RuntimeError: last words", file=sys.stderr, flush=True)


def test_a_worker_that_dies_costs_its_own_episodes_and_nothing_else(
    started: Started, sampler: GroupSampler
) -> None:
    worker_group = started.worker_group
    worker = worker_group.workers[0]
    ray.get(worker.__ray_call__.remote(says))
    log = cast(ProcessLog, ray.get(worker.process_log.remote()))
    below = psutil.Process(log.pid).children(recursive=True)  # a killed parent leaves them behind

    async def main() -> tuple[Any, Any, Any]:
        dying = asyncio.create_task(worker_group.run_episodes(0, long_group(sampler, 2)))
        living = asyncio.create_task(worker_group.run_episodes(1, long_group(sampler, 3)))
        await some_ended(worker_group, 2)
        os.kill(log.pid, signal.SIGKILL)
        lost, kept = await dying, await living
        return lost, kept, await worker_group.run_episodes(0, sampler.group(4, 2, prefix="crew"))

    try:
        (rollouts, failed), (kept, none_failed), (nothing, refused) = started.run(main())
    finally:
        for process in below:
            with suppress(psutil.NoSuchProcess):
                process.kill()
    assert len(rollouts) + len(failed) == EPISODES and failed
    assert {failure.kind for failure in failed.values()} == {FailureKind.INFRASTRUCTURE}
    assert len(kept) == EPISODES and not none_failed
    assert not nothing and len(refused) == 2
    assert list(worker_group.workers) == [1]
    (event,) = started.events
    assert event["kind"] == "worker lost" and event["where"] == "rollout worker 0"
    assert "ActorDiedError" in event["message"] and event["left"] == 1
    assert event["log"] in log.paths and Path(event["log"]).exists()
    assert event["last_lines"][-1] == event["reason"] == "RuntimeError: last words"
    line = str(worker_group.no_worker_left())
    assert line.startswith("every rollout worker is lost; the last, rollout worker 0: ActorDied")
    assert "last error in its log: RuntimeError: last words" in line and event["log"] in line
    assert "peak_mib/rollout" in started.run(worker_group.peak_mib())


def test_a_scorer_that_exits_tells_its_last_words_and_is_there_again(
    started: Started, sampler: GroupSampler
) -> None:
    worker_group, spec = started.worker_group, sampler.group(6, 2, prefix="crew")
    before = worker_group.logs.tail("scorer")

    def exits(_: object) -> None:
        import time

        print("OSError: the library is gone", file=sys.stderr, flush=True)
        time.sleep(1.0)  # while the call below arrives
        os._exit(3)

    async def main() -> tuple[Any, Any]:
        rollouts, _ = await worker_group.run_episodes(1, spec)
        cast(Any, worker_group.scorer).__ray_call__.remote(exits)
        failed = await worker_group.score(spec, rollouts)
        while worker_group.logs._asking:
            await asyncio.wait(worker_group.logs._asking)
        return failed, await worker_group.score(spec, rollouts)

    failed, scored = started.run(main())
    failure = failed.failure
    assert failure is not None and not failure.permanent and failure.log is not None
    assert before is not None and failure.log.path == before.path
    assert failure.log.reason == "OSError: the library is gone"
    assert failure.log.path in failure.line
    after = worker_group.logs.tail("scorer")
    assert scored.failure is None and after is not None and after.path != before.path


def test_a_model_that_the_engine_refuses_is_told_with_the_engines_own_reason(
    ray_cluster: str, quickstart: Config, catalogue: Catalogue, policy_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "policy"
    shutil.copytree(policy_folder, folder)
    shape = AutoConfig.from_pretrained(folder)
    shape.head_dim = 20
    AutoModelForCausalLM.from_config(shape).save_pretrained(folder)
    registry = start_registry("refused")
    worker_group = WorkerGroup(quickstart, catalogue, str(folder), tmp_path, lambda *_, **__: None)
    with asyncio.Runner() as runner:
        with pytest.raises(RunFailed) as caught:
            runner.run(worker_group.start(ray_cluster, "refused", registry))
        runner.run(worker_group.stop())
    ray.kill(registry.actor)
    error = caught.value
    assert str(error).startswith("rollout worker 0: ") and "\n" not in str(error)
    assert error.log is not None and Path(error.log.path).exists()
    assert error.log.path in str(error) and error.log.reason in str(error)
    assert "20" in error.log.reason and error.log.lines


@ray.remote
class Idle:
    """In the place of a worker."""


@pytest.mark.parametrize("private", [False, True])
def test_a_worker_lost_over_a_private_task_is_told_without_its_words(
    started: Started, sampler: GroupSampler, monkeypatch: pytest.MonkeyPatch, private: bool
) -> None:
    spec = sampler.group(5, 2, prefix="crew")
    payload = {**spec.task.payload, PRIVATE: private}
    spec = replace(spec, task=replace(spec.task, payload=payload))

    async def quoting(worker: int, spec: GroupSpec) -> AsyncIterator[Any]:
        raise RayError(spec.task.question)
        yield

    monkeypatch.setattr(started.worker_group, "_stream", quoting)
    started.worker_group.workers[7] = Idle.options(num_cpus=0).remote()
    rollouts, failed = started.run(started.worker_group.run_episodes(7, spec))
    assert not rollouts and len(failed) == 2
    told = [started.events[-1]["message"], *(failure.message for failure in failed.values())]
    last_line = spec.task.question.splitlines()[-1]
    assert [last_line in message for message in told] == [not private] * 3


def test_a_worker_that_cannot_load_new_weights_is_dropped(started: Started) -> None:
    assert started.run(started.worker_group.update_weights(77)) == {}
    assert not started.worker_group.workers
    assert "version 77 is not published" in started.events[-1]["message"]
