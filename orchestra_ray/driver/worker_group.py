"""The actors of a run as the driver sees them: started once, each call under a deadline.

The only code of the driver that holds the Ray handles of workers and scorer. Errors are returned as
values (`Failure`), so that the loop can report them. A rollout worker that fails is removed, and an
event recorded; `workers` holds the others. Tool executors and the scorer keep no state, and Ray
restarts them.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from ray import ObjectRef
from ray.actor import ActorProxy
from ray.exceptions import RayActorError, RayError

from orchestra_ray.config import Config
from orchestra_ray.config.derived import cassette_of, has_private_tasks, overlong_of
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.memory import peak_mib
from orchestra_ray.core.records import EpisodeSummary, GroupScore, GroupSpec
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.private import redact_private
from orchestra_ray.driver.actor_calls import Handle, RunFailed, kill, one_line, within
from orchestra_ray.driver.filters import Rollout, ScoredGroup
from orchestra_ray.driver.logs import ActorLogs, failure_fields
from orchestra_ray.spend.accounts import StepTotals
from orchestra_ray.spend.actor import RemoteSpendActor
from orchestra_ray.spend.budget import MEASUREMENT, limits_of
from orchestra_ray.weights.actor import RegistryHandle
from orchestra_ray.workers.reward.actor import RemoteRewardScorer, RewardScorer
from orchestra_ray.workers.reward.judges.registry import grader_inputs
from orchestra_ray.workers.reward.judges.verdict import Verdict
from orchestra_ray.workers.reward.settings import RewardSettings
from orchestra_ray.workers.rollout.actor import RemoteRolloutWorker, RolloutWorker
from orchestra_ray.workers.tools.actor import RemoteToolExecutor, ToolExecutor
from orchestra_ray.workers.tools.runtime.health import PoolState, metrics_of

T = TypeVar("T")
OnEvent = Callable[..., object]  # of `Tracker.event`
STOP_S = 30.0
FIGURES_S = 10.0
CONTROL_S = 60.0
STREAM_MARGIN_S = 30.0  # beyond the deadline of the episode, for the transfer
SPEND = "spend actor"  # in events


class WorkerGroup:
    """Rollout workers, tool executors and the scorer of one run."""

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        model_path: str,
        folder: Path,
        on_event: OnEvent,
        serves: bool = True,
    ):
        """`folder` is the run's, for its ledger. serves: whether the model itself is a policy."""
        env = {"env_vars": {"OMP_NUM_THREADS": "1"}}
        self._config, self.on_event = config, on_event
        self.logs = ActorLogs(has_private_tasks(config.tasks))
        self._unsettled = 0
        self._lost: Failure | None = None  # of the worker that was lost last
        tools, rollout = config.tools, config.rollout
        limits, cassette = limits_of(config.spend), cassette_of(config)
        self.spend = RemoteSpendActor.options(num_cpus=0, runtime_env=env).remote(
            config.name, str(folder), limits
        )
        executor = RemoteToolExecutor.options(num_cpus=tools.cpus_per_actor, runtime_env=env)
        self.executors = [
            executor.remote(
                catalogue, self.spend, (index, tools.actors), limits.count_calls, cassette
            )
            for index in range(tools.actors)
        ]
        scorer = RemoteRewardScorer.options(num_cpus=config.reward.cpus, runtime_env=env)
        judging = grader_inputs(config, catalogue, limits.count_calls)
        self.scorer = scorer.remote(judging, self.spend)
        # For the next groups: the multiplier of a budget changes during the run.
        self.reward = RewardSettings.of(config.reward, overlong_of(config))
        worker = RemoteRolloutWorker.options(
            num_cpus=rollout.cpus_per_worker, num_gpus=rollout.gpus_per_worker, runtime_env=env
        )
        self.workers: dict[int, ActorProxy[RolloutWorker]] = {
            index: worker.remote(
                config, model_path, catalogue, self.executors, self.spend, index, serves
            )
            for index in range(rollout.workers)
        }

    async def start(self, gcs_address: str, namespace: str, registry: RegistryHandle) -> None:
        rollout_s = self._config.rollout.start_deadline_s
        tools_s = self._config.tools.start_deadline_s

        async def start(where: str, worker: ActorProxy[RolloutWorker]) -> None:
            await self.logs.ask(where, worker.process_log.remote())  # before it may die
            await worker.start.remote(gcs_address, namespace, registry.name)

        async def await_ready(where: str, actor: Handle) -> None:
            await self.logs.ask(where, actor.process_log.remote())
            await actor.peak_mib.remote()

        workers = {f"rollout worker {i}": worker for i, worker in self.workers.items()}
        starts = [
            *((rollout_s, where, start(where, worker)) for where, worker in workers.items()),
            *((tools_s, where, await_ready(where, a)) for where, a in self._others().items()),
        ]
        await asyncio.gather(*(within(s, where, call, self.logs) for s, where, call in starts))

    def _others(self) -> dict[str, Handle]:
        """Returns all actors but the rollout workers, by their names in events."""
        return {**self._restarted(), SPEND: self.spend}

    def _restarted(self) -> dict[str, ActorProxy[ToolExecutor] | ActorProxy[RewardScorer]]:
        """Returns the actors that Ray restarts, by their names in events."""
        executors = {f"tool executor {i}": actor for i, actor in enumerate(self.executors)}
        return {**executors, "scorer": self.scorer}

    async def run_episodes(
        self, worker: int, spec: GroupSpec
    ) -> tuple[list[Rollout], dict[str, Failure]]:
        """Returns every episode of the group once: as a rollout, or as a failure by episode id."""
        rollouts: list[Rollout] = []
        failed: dict[str, Failure] = {}
        lost = Failure(FailureKind.INFRASTRUCTURE, f"rollout worker {worker}", "stream ended early")
        try:
            deadline_s = self._config.rollout.episode_deadline_s + STREAM_MARGIN_S
            async with asyncio.timeout(deadline_s):
                async for summary, ref in self._stream(worker, spec):
                    if summary.failure is None:
                        rollouts.append(Rollout(summary, ref))
                    else:
                        failed[summary.episode_id] = summary.failure
        except TimeoutError:
            message = f"no episode summary within {deadline_s:g} s"
            lost = self.logs.failure(FailureKind.DEADLINE, lost.where, message)
        except RayError as error:
            kind, message = FailureKind.INFRASTRUCTURE, one_line(error)
            lost = redact_private(self.logs.failure(kind, lost.where, message, error), spec.task)
            self._drop(worker, lost)
        seen = {rollout.summary.episode_id for rollout in rollouts} | failed.keys()
        failed |= {e.episode_id: lost for e in spec.episodes if e.episode_id not in seen}
        return rollouts, failed

    async def _stream(
        self, worker: int, spec: GroupSpec
    ) -> AsyncIterator[tuple[EpisodeSummary, ObjectRef[Any]]]:
        if worker not in self.workers:
            return
        started = self.workers[worker].run_group.remote(spec)
        stream = cast(AsyncIterator[ObjectRef[Any]], started)  # Ray types it as one reference
        async for trajectory in stream:
            summary = await anext(stream, None)
            if summary is None:
                await trajectory  # raises the error of the worker, which ends its stream
            else:
                yield await summary, trajectory

    async def score(self, spec: GroupSpec, rollouts: Sequence[Rollout]) -> GroupScore:
        """Scores a group by reference; a failure is a field of the score."""
        refs = (rollout.ref for rollout in rollouts)
        found = await self._scored(self.scorer.score.remote(self.reward, spec, *refs), "score")
        return GroupScore(spec.group_id, (), False, found) if isinstance(found, Failure) else found

    async def grade(self, spec: GroupSpec, rollout: Rollout) -> Verdict | Failure:
        """Returns the verdict on the answer of one episode."""
        return await self._scored(self.scorer.grade.remote(spec, rollout.ref), "verdict")

    async def _scored(self, asked: Awaitable[T], what: str) -> T | Failure:
        """Awaits the scorer, within its deadline."""
        try:
            async with asyncio.timeout(self._config.reward.deadline_s):
                return await asked
        except TimeoutError:
            message, cause = f"no {what} within {self._config.reward.deadline_s:g} s", None
        except RayError as error:
            message, cause = one_line(error), error
        failure = self.logs.failure(FailureKind.REWARD, "scorer", message, cause)
        if isinstance(cause, RayActorError):
            self.logs.ask_again(
                "scorer", self.scorer.process_log.remote(), self._config.tools.start_deadline_s
            )
        return failure

    async def run_and_score(self, worker: int, spec: GroupSpec) -> ScoredGroup:
        rollouts, failed = await self.run_episodes(worker, spec)
        started_s = time.monotonic()
        score = GroupScore(spec.group_id, (), False)
        if rollouts:
            score = await self.score(spec, rollouts)
        score_s = time.monotonic() - started_s
        return ScoredGroup(spec, worker, tuple(rollouts), failed, score, score_s)

    async def update_weights(self, version: int) -> Mapping[str, float]:
        """Has every worker load the version; returns the seconds of the slowest.

        A worker that fails to is removed: with old weights it would only produce stale episodes.
        """
        deadline_s = self._config.weights.deadline_s
        asked = list(self.workers)
        updates = [
            within(deadline_s, "weights", self.workers[i].update_weights.remote(version))
            for i in asked
        ]
        seconds: list[Mapping[str, float]] = []
        for worker, outcome in zip(
            asked, await asyncio.gather(*updates, return_exceptions=True), strict=True
        ):
            if isinstance(outcome, RunFailed):
                where, cause = f"rollout worker {worker}", outcome.__cause__
                lost = self.logs.failure(FailureKind.ENGINE, where, str(outcome), cause)
                self._drop(worker, lost)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                seconds.append(outcome)
        return {key: max(s[key] for s in seconds) for key in seconds[0]} if seconds else {}

    def _drop(self, worker: int, failure: Failure) -> None:
        """Kills a worker; its episodes in flight fail."""
        actor = self.workers.pop(worker, None)
        if actor is None:
            return
        self._lost = failure
        self.on_event("worker lost", **failure_fields(failure), left=len(self.workers))
        kill(actor)

    def no_worker_left(self) -> RunFailed:
        """Returns the error for a run without rollout workers: why the last one was lost."""
        if self._lost is None:
            return RunFailed("every rollout worker is lost; events.jsonl says why")
        message = f"{self._lost.where}: {self._lost.message}"
        return RunFailed(f"every rollout worker is lost; the last, {message}", self._lost.log)

    async def close_step(self, step: int, deadline_s: float = CONTROL_S) -> StepTotals:
        """Writes the ledger of a step whose episodes have all ended; returns the run's totals.

        The totals include the current queues of the workers' pools. The ledger has every call that
        has ended, except those of processes that died or did not answer; the latter are failures,
        and their calls are entered later.
        """
        (unsettled, failures), waiting = await asyncio.gather(
            self._drain(deadline_s), self._pool_metrics()
        )
        asked = self.spend.close_step.remote(step)
        closed = await within(deadline_s, SPEND, asked, self.logs)
        failures = (*map(self.logs.redacted, dict.fromkeys(closed.failures)), *failures)
        if unsettled > self._unsettled:
            message = (
                f"{unsettled - self._unsettled} ended calls could not be entered in the ledger"
            )
            failures += (Failure(FailureKind.INFRASTRUCTURE, SPEND, message),)
            self._unsettled = unsettled
        totals = {**closed.totals, **waiting, "ledger/unsettled": float(unsettled)}
        return StepTotals(totals, failures)

    async def stop(self) -> Sequence[Failure]:
        """Closes the ledger and ends every actor; the engines first, with their own processes."""
        ending = [
            within(STOP_S, f"end of rollout worker {i}", worker.stop.remote())
            for i, worker in self.workers.items()
        ]
        await asyncio.gather(*ending, return_exceptions=True)
        try:
            failures = (await self.close_step(MEASUREMENT, STOP_S)).failures
        except RunFailed as error:
            kind, cause = FailureKind.INFRASTRUCTURE, error.__cause__
            failures = (self.logs.failure(kind, SPEND, str(error), cause),)
        actors: list[Handle] = [*self.workers.values(), *self.executors, self.scorer, self.spend]
        for actor in actors:
            kill(actor)
        return failures

    async def _drain(self, deadline_s: float) -> tuple[int, list[Failure]]:
        """Has every process deliver its settlements; returns the number lost, and the failures.

        Settlements of a process that fails are not counted: they may still be delivered.
        """
        workers = {f"rollout worker {i}": actor for i, actor in self.workers.items()}
        actors = {**self._restarted(), **workers}
        draining = [
            within(deadline_s, "its settlements", actor.drain.remote()) for actor in actors.values()
        ]
        unsettled, failures = 0, []
        for where, drained in zip(
            actors, await asyncio.gather(*draining, return_exceptions=True), strict=True
        ):
            if isinstance(drained, RunFailed):
                kind, cause = FailureKind.INFRASTRUCTURE, drained.__cause__
                failures.append(self.logs.failure(kind, where, str(drained), cause))
            elif isinstance(drained, BaseException):
                raise drained
            else:
                unsettled += drained
        return unsettled, failures

    async def _pool_metrics(self) -> Mapping[str, float]:
        """Returns the metrics of the pools of all workers that answer."""
        asked = [
            within(FIGURES_S, "its pool", worker.pool_state.remote())
            for worker in self.workers.values()
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return metrics_of([one for one in answers if isinstance(one, PoolState)])

    async def peak_mib(self) -> Mapping[str, float]:
        """Returns the peak memory of each role's largest process, and of the driver.

        An actor that does not answer is left out, since metrics must not end a run.
        """
        actors = [*self.workers.values(), *self.executors, self.scorer, self.spend]
        asked = [within(FIGURES_S, "peak memory", actor.peak_mib.remote()) for actor in actors]
        peaks = {"driver": peak_mib()}
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            for role, mib in answer.items() if isinstance(answer, Mapping) else ():
                peaks[role] = max(mib, peaks.get(role, 0.0))
        return {f"peak_mib/{role}": mib for role, mib in peaks.items()}
