"""The learner's ranks as Ray actors, and the driver's handle to them.

Invariants: the driver sends references, lengths and advantages, never trajectories; every await has
a deadline; the first failure of a rank, or an exceeded deadline, stops all ranks and is raised as
one `LearnerFailed`. Ranks run in lockstep, so a group with a failed rank cannot continue: start a
new one from the last checkpoint.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import ray
from ray import ObjectRef
from ray.actor import ActorHandle, ActorProxy
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestra_ray.config.derived import has_private_tasks
from orchestra_ray.config.model_folder import model_folder
from orchestra_ray.config.schema import Config
from orchestra_ray.core.errors import ReportedError, first_line
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.process_log import LogTail, ProcessLog, own_log, without_reason
from orchestra_ray.weights.actor import WeightRegistry, publish
from orchestra_ray.workers.learner.packing import is_padded, plan_batch
from orchestra_ray.workers.learner.parts import TrainingSequence, part_of

POLICY = "policy"  # subfolders of a checkpoint
OPTIMIZER = "optimizer"
_GRACE_S = 5.0  # for the other ranks to report their errors after the first failure


class LearnerFailed(ReportedError):
    """The group has been stopped; `failure` names the rank that failed first, and the cause."""

    def __init__(self, failure: Failure):
        super().__init__(f"{failure.where}: {failure.line}")
        self.failure = failure

    @property
    def log(self) -> LogTail | None:
        return self.failure.log


RankStep = list[list[TrainingSequence]]  # the micro-batches of one optimizer step


class LearnerRank:
    """One process with one `LearnerEngine`. Each method is called on all ranks together."""

    def __init__(self, config: Config, model_path: str):
        self._config = config
        self._model_path = model_path

    @ray.method
    def process_log(self) -> ProcessLog:
        return own_log()

    @ray.method
    def endpoint(self) -> tuple[str, int]:
        """Returns this node's address and a port that is probably free."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return ray.util.get_node_ip_address(), probe.getsockname()[1]

    @ray.method
    def join(self, rank: int, endpoint: tuple[str, int], resume: str | None) -> None:
        # DeepSpeed chooses its accelerator at import time, and the driver must not import it.
        from orchestra_ray.weights.tensors import check_folder
        from orchestra_ray.workers.learner.engine import LearnerEngine

        self._model_path = model_folder(self._model_path)
        check_folder(self._model_path)
        self._engine = LearnerEngine(
            self._config, self._model_path, rank, self._config.learner.ranks, *endpoint
        )
        if resume is not None:
            self._engine.load_optimizer(Path(resume) / OPTIMIZER)

    @ray.method
    def train(self, steps: list[RankStep]) -> dict[str, float]:
        from orchestra_ray.workers.learner.batch import Minibatch, Sample

        refs = [sequence.ref for step in steps for batch in step for sequence in batch]
        payloads = iter(ray.get(refs, timeout=self._config.learner.step_deadline_s))
        minibatches = [
            Minibatch(
                [
                    [
                        Sample(part_of(next(payloads), s.part), s.advantages, s.episode_tokens)
                        for s in batch
                    ]
                    for batch in step
                ]
            )
            for step in steps
        ]
        return self._engine.train_step(minibatches)

    @ray.method
    def publish(self, version: int, registry: ActorProxy[WeightRegistry]) -> dict[str, float]:
        """Publishes the weights: all ranks gather them, rank 0 publishes."""
        started_s = perf_counter()
        tensors = self._engine.state_dict()
        if self._engine.rank != 0:
            deque(tensors, maxlen=0)
            return {}
        weights = self._config.weights
        manifest = publish(
            registry, version, tensors, weights.bucket_mib * 2**20, weights.deadline_s
        )
        return {"bytes": float(manifest.total_bytes), "put_s": perf_counter() - started_s}

    @ray.method
    def save(self, path: str) -> None:
        self._engine.save_hf(Path(path) / POLICY, self._model_path)
        self._engine.save_optimizer(Path(path) / OPTIMIZER)


RemoteLearnerRank = ray.remote(LearnerRank)


class LearnerGroup:
    """All ranks as one object. Created by `start`; stopped after a `LearnerFailed`."""

    def __init__(
        self,
        config: Config,
        ranks: Sequence[ActorProxy[LearnerRank]],
        registry: ActorProxy[WeightRegistry],
    ):
        self._config = config
        self.ranks = ranks
        self._registry = registry
        self._logs: list[ProcessLog] = []  # of the ranks, then of the weight registry

    @classmethod
    async def start(
        cls,
        config: Config,
        model_path: str | Path,
        registry: ActorProxy[WeightRegistry],
        placement: Sequence[PlacementGroupSchedulingStrategy] | None = None,
        resume: str | Path | None = None,
    ) -> "LearnerGroup":
        """Returns a group whose ranks have joined and loaded the policy.

        model_path: a folder readable on every node of a rank. registry: the weight registry actor.
        placement: one strategy per rank. resume: a folder written by `save`.
        """
        learner = config.learner
        strategies = placement or ["DEFAULT"] * learner.ranks
        if len(strategies) != learner.ranks:
            raise ValueError(f"{len(strategies)} places for learner.ranks={learner.ranks}")
        ranks = [_start_rank(config, str(model_path), strategy) for strategy in strategies]
        group = cls(config, ranks, registry)
        deadline_s = learner.start_deadline_s
        writers = [*ranks, registry]
        logs = [actor.process_log.remote() for actor in writers]
        group._logs = await group._results("start", logs, deadline_s)
        (endpoint,) = await group._results("start", [ranks[0].endpoint.remote()], deadline_s)
        folder = None if resume is None else str(resume)
        joins = [actor.join.remote(rank, endpoint, folder) for rank, actor in enumerate(ranks)]
        await group._results("start", joins, deadline_s)
        return group

    async def train(self, sequences: Sequence[TrainingSequence]) -> dict[str, float]:
        """Runs the optimizer steps of one batch; see `LearnerEngine.train_step`.

        Raises ValueError if the batch is empty or a sequence exceeds the cap of a micro-batch.
        """
        if not sequences:
            raise ValueError("LearnerGroup.train: an empty batch")
        padded = is_padded(self._config.model.attention)
        plans = plan_batch([s.tokens for s in sequences], self._config.learner, padded)
        calls = []
        for rank, actor in enumerate(self.ranks):
            steps: list[RankStep] = [
                [[sequences[i] for i in batch] for batch in plan[rank]] for plan in plans
            ]
            calls.append(actor.train.remote(steps))
        return (await self._results("train", calls, self._config.learner.step_deadline_s))[0]

    async def publish(self, version: int) -> dict[str, float]:
        """Publishes the current weights in the registry as `version`."""
        calls = [actor.publish.remote(version, self._registry) for actor in self.ranks]
        return (await self._results("publish", calls, self._config.weights.deadline_s))[0]

    async def save(self, path: str | Path) -> None:
        """Writes `policy`, loadable by transformers and vLLM, and `optimizer` to folder `path`.

        The disk must be shared by all ranks. Each of the two folders appears atomically.
        """
        calls = [actor.save.remote(str(path)) for actor in self.ranks]
        await self._results("save", calls, self._config.learner.step_deadline_s)

    async def stop(self) -> None:
        for actor in self.ranks:
            ray.kill(cast(ActorHandle, actor))

    async def _results(self, what: str, refs: Sequence[ObjectRef], deadline_s: float) -> list[Any]:
        """Returns one result per rank, in order; stops the group if one is missing."""
        calls = [asyncio.wrap_future(ref.future()) for ref in refs]
        _, waiting = await asyncio.wait(
            calls, timeout=deadline_s, return_when=asyncio.FIRST_EXCEPTION
        )
        errors = _errors(calls)
        if not errors and not waiting:
            return [call.result() for call in calls]
        if errors and waiting:
            await asyncio.wait(waiting, timeout=_GRACE_S)
            errors = _errors(calls)
        await self.stop()
        for call in calls:
            call.cancel()
        if not errors:
            message = f"not every rank answered within {deadline_s:g} s"
            late = next(rank for rank, call in enumerate(calls) if call in waiting)
            failure = Failure(FailureKind.DEADLINE, f"learner, {what}", message)
            raise LearnerFailed(replace(failure, log=without_reason(self._tail(late))))
        # The peers of a dead rank fail too, so a death takes precedence over an error.
        rank = min(errors, key=lambda rank: not isinstance(errors[rank], RayActorError))
        failure = _failure(what, rank, errors[rank])
        raise LearnerFailed(replace(failure, log=self._log_of(rank, errors[rank]))) from errors[
            rank
        ]

    def _log_of(self, rank: int, error: BaseException) -> LogTail | None:
        """Returns the log of the failed process; with the reason only if no exception gives it."""
        if isinstance(error, RayTaskError):
            dead = isinstance(error.cause, RayActorError)  # a rank calls no actor but the registry
            return self._tail(len(self.ranks)) if dead else without_reason(self._tail(rank))
        return self._tail(rank)

    def _tail(self, writer: int) -> LogTail | None:
        """Returns the tail of a log; without text if tasks are private, as it may quote them."""
        tail = self._logs[writer].tail() if writer < len(self._logs) else None
        return tail.redacted() if tail and has_private_tasks(self._config.tasks) else tail


def _start_rank(
    config: Config, model_path: str, strategy: PlacementGroupSchedulingStrategy | str
) -> ActorProxy[LearnerRank]:
    learner = config.learner
    environment = {
        "OMP_NUM_THREADS": str(max(1, int(learner.cpus_per_rank))),
        "DS_ACCELERATOR": "cuda" if learner.gpus_per_rank else "cpu",
    }
    options: dict[str, Any] = {
        "num_cpus": learner.cpus_per_rank,
        "num_gpus": learner.gpus_per_rank,
        "scheduling_strategy": strategy,
        "runtime_env": {"env_vars": environment},
    }
    return RemoteLearnerRank.options(**options).remote(config, model_path)


def _errors(calls: Sequence[asyncio.Future[Any]]) -> dict[int, BaseException]:
    """Returns by rank the exceptions of the calls that have failed."""
    ended = {rank: call.exception() for rank, call in enumerate(calls) if call.done()}
    return {rank: error for rank, error in ended.items() if error is not None}


def _failure(what: str, rank: int, error: BaseException) -> Failure:
    late = isinstance(error, GetTimeoutError)
    kind = FailureKind.DEADLINE if late else FailureKind.INFRASTRUCTURE
    cause = error.cause if isinstance(error, RayTaskError) else error
    message = f"{type(cause).__name__}: {first_line(cause)}"
    return Failure(kind, f"learner rank {rank}, {what}", message)
