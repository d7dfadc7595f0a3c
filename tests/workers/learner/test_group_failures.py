"""What a learner group makes of dead ranks, bad payloads and missing places: failures, no hangs."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import ray
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestra_ray.config.enums import ZeroStage
from orchestra_ray.config.schema import Config
from orchestra_ray.core.faults import FailureKind
from orchestra_ray.core.process_log import ProcessLog
from orchestra_ray.core.records import Trajectory
from orchestra_ray.workers.learner.actor import LearnerFailed, LearnerGroup

from .training import make_config, train

pytestmark = pytest.mark.cpu


@pytest.fixture
def config() -> Config:
    return make_config(ZeroStage.TWO)


@pytest.fixture
def placement(ray_cluster: str) -> Iterator[list[PlacementGroupSchedulingStrategy]]:
    bundles = ray.util.placement_group([{"CPU": 0.25}] * 2)
    ray.get(bundles.ready(), timeout=30)
    yield [PlacementGroupSchedulingStrategy(bundles, bundle) for bundle in range(2)]
    ray.util.remove_placement_group(bundles)


@pytest.fixture
def group(
    config: Config,
    registry: ActorHandle,
    tiny_model_path: Path,
    placement: list[PlacementGroupSchedulingStrategy],
) -> Iterator[LearnerGroup]:
    group = asyncio.run(LearnerGroup.start(config, tiny_model_path, registry, placement))
    yield group
    asyncio.run(group.stop())


def quote(rank: object) -> None:
    print("ValueError: what is 6 x 7", file=sys.stderr, flush=True)


@pytest.mark.parametrize("private", [False, True])
def test_a_dead_rank_is_one_failure_and_no_hang(
    config: Config, group: LearnerGroup, trajectories: list[Trajectory], private: bool
) -> None:
    config.tasks.private = private
    started_s = time.monotonic()
    log = cast(ProcessLog, ray.get(group.ranks[1].process_log.remote()))
    ray.get(group.ranks[1].__ray_call__.remote(quote))
    os.kill(log.pid, signal.SIGKILL)
    with pytest.raises(LearnerFailed) as caught:
        train(group, [ray.put(t) for t in trajectories], trajectories)
    assert caught.value.failure.kind is FailureKind.INFRASTRUCTURE
    assert caught.value.failure.where == "learner rank 1, train"
    told = caught.value.log
    assert told is not None and told.path in log.paths and Path(told.path).exists()
    assert told.path in str(caught.value)
    assert "ValueError" in str(caught.value) and bool(told.lines) is not private
    assert ("6 x 7" in str(caught.value)) is not private
    assert time.monotonic() - started_s < 30


def test_a_trajectory_that_cannot_be_trained_names_itself_and_the_rank(
    group: LearnerGroup, trajectories: list[Trajectory]
) -> None:
    refs: list[ObjectRef] = [ray.put("not a trajectory")]
    refs += [ray.put(t) for t in trajectories[1:]]
    with pytest.raises(LearnerFailed, match=r"learner rank \d, train: AttributeError") as caught:
        train(group, refs, trajectories)
    assert caught.value.log is not None and caught.value.log.path in str(caught.value)


def test_a_payload_that_never_comes_is_a_failure_at_the_deadline(
    config: Config, group: LearnerGroup, trajectories: list[Trajectory]
) -> None:
    @ray.remote(num_cpus=0)
    def never() -> None:
        time.sleep(600)

    config.learner.step_deadline_s = 1.0
    missing = never.remote()
    refs = [missing, *(ray.put(t) for t in trajectories[1:])]
    with pytest.raises(LearnerFailed) as caught:
        train(group, refs, trajectories)
    ray.cancel(missing, force=True)
    assert caught.value.failure.kind is FailureKind.DEADLINE


def test_a_model_that_is_not_there_fails_the_start(
    config: Config, registry: ActorHandle, tmp_path: Path
) -> None:
    with pytest.raises(LearnerFailed, match=r"learner rank \d, start"):
        asyncio.run(LearnerGroup.start(config, tmp_path / "none", registry))


def test_a_rank_without_a_place_is_an_error_before_any_starts(
    config: Config,
    registry: ActorHandle,
    tiny_model_path: Path,
    placement: list[PlacementGroupSchedulingStrategy],
) -> None:
    with pytest.raises(ValueError, match="1 places for learner.ranks=2"):
        asyncio.run(LearnerGroup.start(config, tiny_model_path, registry, placement[:1]))


def test_no_compiler_is_needed(tiny_model_path: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = f"""
from orchestra_ray.config.schema import Config
from orchestra_ray.workers.learner.engine import LearnerEngine
config = Config(name="bare")
config.training.steps = 1
config.model.dtype = "float32"
config.learner.ranks = 1
engine = LearnerEngine(config, {str(tiny_model_path)!r}, 0, 1, "127.0.0.1", {port})
assert dict(engine.state_dict())
"""
    environment = {"PATH": "", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.so"))
