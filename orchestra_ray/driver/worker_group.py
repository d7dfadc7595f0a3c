"""The actors of a run as the driver sees them: started once, each call under a deadline.

The only place where the driver's code touches Ray handles of workers and scorer. What goes wrong
comes back as a value (`Failure`), so that the loop can name it. A rollout worker that fails is
dropped, once, with an event: `workers` holds those that live. Tool executors and the scorer keep
no state, and Ray starts them again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayError

from orchestra_ray.config import Config
from orchestra_ray.config.validation import cassette_of, is_private, overlong_of
from orchestra_ray.core.errors import ReportedError
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.memory import peak_mib
from orchestra_ray.core.process_log import LogTail, with_log
from orchestra_ray.core.records import EpisodeSummary, GroupScore, GroupSpec
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.private import told
from orchestra_ray.driver.filters import Rollout, ScoredGroup
from orchestra_ray.driver.logs import ActorLogs, failure_fields
from orchestra_ray.spend.accounts import StepTotals
from orchestra_ray.spend.budget import MEASUREMENT, limits_of
from orchestra_ray.weights.actor import WeightRegistryActor
from orchestra_ray.workers.reward.actor import RewardScorer
from orchestra_ray.workers.reward.judges.registry import grader_inputs
from orchestra_ray.workers.reward.judges.verdict import Verdict
from orchestra_ray.workers.reward.settings import RewardSettings
from orchestra_ray.workers.rollout.actor import RolloutWorker
from orchestra_ray.workers.tools.actor import Books, ToolExecutor
from orchestra_ray.workers.tools.runtime.health import PoolState, metrics_of

T = TypeVar("T")
OnEvent = Callable[..., object]  # of `Tracker.event`
STOP_S = 30.0
FIGURES_S = 10.0
CONTROL_S = 60.0
STREAM_MARGIN_S = 30.0  # beyond the episode's own deadline, for the way back


class RunFailed(ReportedError):
    """The run cannot go on; one line that says why. `log`: of the process that it failed with."""

    def __init__(self, message: str, log: LogTail | None = None):
        super().__init__(with_log(message, log))
        self.log = log


async def within(
    deadline_s: float, what: str, awaitable: Awaitable[T], logs: ActorLogs | None = None
) -> T:
    """Awaits a Ray reference; `RunFailed` past the deadline or where the actor fails.

    logs: where `what` is the name of the actor in them.
    """
    try:
        async with asyncio.timeout(deadline_s):
            return await awaitable
    except TimeoutError:
        message, cause = f"{what}: no answer within {deadline_s:g} s", None
    except RayError as error:
        message, cause = f"{what}: {one_line(error)}", error
    raise RunFailed(message, None if logs is None else logs.tail(what, cause)) from cause


def one_line(error: RayError) -> str:
    """The last line, where Ray repeats the error of the actor's own code below its traceback."""
    lines = str(error).strip().splitlines() or [""]
    told, _, _ = lines[-1].partition(" Some common causes include")  # of any death at all
    return f"{type(error).__name__}: {told}"


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
        """`folder` is the run's; its ledger is written there. serves: the model itself plays."""
        env = {"env_vars": {"OMP_NUM_THREADS": "1"}}
        self._config, self.on_event = config, on_event
        self.logs = ActorLogs(is_private(config.tasks))
        self._unposted = 0
        self._lost: Failure | None = None  # the worker that was lost last
        tools, rollout = config.tools, config.rollout
        limits, cassette = limits_of(config.spend), cassette_of(config)
        self.books = Books.options(num_cpus=0, runtime_env=env).remote(
            config.name, str(folder), limits
        )
        executor = ToolExecutor.options(num_cpus=tools.cpus_per_actor, runtime_env=env)
        self.executors = [
            executor.remote(
                catalogue, self.books, (index, tools.actors), limits.count_calls, cassette
            )
            for index in range(tools.actors)
        ]
        scorer = RewardScorer.options(num_cpus=config.reward.cpus, runtime_env=env)
        judging = grader_inputs(config, catalogue, limits.count_calls)
        self.scorer = scorer.remote(judging, self.books)
        # Of the groups from here on: a budget's multiplier moves.
        self.reward = RewardSettings.of(config.reward, overlong_of(config))
        worker = RolloutWorker.options(  # pyright: ignore[reportAttributeAccessIssue]
            num_cpus=rollout.cpus_per_worker, num_gpus=rollout.gpus_per_worker, runtime_env=env
        )
        self.workers: dict[int, Any] = {
            index: worker.remote(
                config, model_path, catalogue, self.executors, self.books, index, serves
            )
            for index in range(rollout.workers)
        }

    async def start(self, gcs_address: str, namespace: str, registry: WeightRegistryActor) -> None:
        rollout_s = self._config.rollout.start_deadline_s
        tools_s = self._config.tools.start_deadline_s

        async def begin(where: str, actor: Any, start: Callable[[], Awaitable[object]]) -> None:
            await self.logs.ask(where, actor)  # before anything that may end the process
            await start()

        def start_of(worker: Any) -> Callable[[], Awaitable[object]]:
            return lambda: worker.start.remote(gcs_address, namespace, registry.name)

        workers = {f"rollout worker {i}": worker for i, worker in self.workers.items()}
        starts = [
            *((rollout_s, where, worker, start_of(worker)) for where, worker in workers.items()),
            *((tools_s, where, a, a.peak_mib.remote) for where, a in self._others().items()),
        ]
        calls = [
            within(limit_s, where, begin(where, actor, start), self.logs)
            for limit_s, where, actor, start in starts
        ]
        await asyncio.gather(*calls)

    def _others(self) -> dict[str, Any]:
        """The actors that are no rollout workers, by the names that events give them."""
        executors = {f"tool executor {i}": actor for i, actor in enumerate(self.executors)}
        return {**executors, "scorer": self.scorer, "the books": self.books}

    async def play(self, worker: int, spec: GroupSpec) -> tuple[list[Rollout], dict[str, Failure]]:
        """Every episode of the group once: as a rollout, or with its failure by episode id."""
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
            message = f"no card within {deadline_s:g} s"
            lost = self.logs.failure(FailureKind.DEADLINE, lost.where, message)
        except RayError as error:
            kind, message = FailureKind.INFRASTRUCTURE, one_line(error)
            lost = told(self.logs.failure(kind, lost.where, message, error), spec.task)
            self._drop(worker, lost)
        seen = {rollout.summary.episode_id for rollout in rollouts} | failed.keys()
        failed |= {e.episode_id: lost for e in spec.episodes if e.episode_id not in seen}
        return rollouts, failed

    async def _stream(
        self, worker: int, spec: GroupSpec
    ) -> AsyncIterator[tuple[EpisodeSummary, ray.ObjectRef]]:
        if worker not in self.workers:
            return
        stream = self.workers[worker].play.remote(spec)
        async for trajectory in stream:
            summary = await anext(stream, None)
            if summary is None:
                await trajectory  # the error of the worker, which ends its stream
            else:
                yield await summary, trajectory

    async def score(self, spec: GroupSpec, rollouts: Sequence[Rollout]) -> GroupScore:
        """References in, a small record out; a failure is a field of it."""
        refs = (rollout.ref for rollout in rollouts)
        found = await self._scored(self.scorer.score.remote(self.reward, spec, *refs), "score")
        return GroupScore(spec.group_id, (), False, found) if isinstance(found, Failure) else found

    async def judge(self, spec: GroupSpec, rollout: Rollout) -> Verdict | Failure:
        """Whether the answer of one episode is right."""
        return await self._scored(self.scorer.judge.remote(spec, rollout.ref), "verdict")

    async def _scored(self, asked: Awaitable[T], what: str) -> T | Failure:
        """What the scorer says, within its deadline."""
        try:
            async with asyncio.timeout(self._config.reward.deadline_s):
                return await asked
        except TimeoutError:
            message, cause = f"no {what} within {self._config.reward.deadline_s:g} s", None
        except RayError as error:
            message, cause = one_line(error), error
        failure = self.logs.failure(FailureKind.REWARD, "scorer", message, cause)
        if isinstance(cause, RayActorError):
            self.logs.ask_again("scorer", self.scorer, self._config.tools.start_deadline_s)
        return failure

    async def play_and_score(self, worker: int, spec: GroupSpec) -> ScoredGroup:
        rollouts, failed = await self.play(worker, spec)
        started_s = time.monotonic()
        score = GroupScore(spec.group_id, (), False)
        if rollouts:
            score = await self.score(spec, rollouts)
        score_s = time.monotonic() - started_s
        return ScoredGroup(spec, worker, tuple(rollouts), failed, score, score_s)

    async def update_weights(self, version: int) -> Mapping[str, float]:
        """Every worker serves the version when this returns, or is dropped; the slowest's seconds.

        A worker that keeps its old weights would only produce what is stale.
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
        """Ends a worker; its episodes in flight end in failures of their own."""
        actor = self.workers.pop(worker, None)
        if actor is None:
            return
        self._lost = failure
        self.on_event("worker lost", **failure_fields(failure), left=len(self.workers))
        ray.kill(actor)

    def no_worker_left(self) -> RunFailed:
        """For when every rollout worker is lost: why the last of them was."""
        if self._lost is None:
            return RunFailed("every rollout worker is lost; events.jsonl says why")
        message = f"{self._lost.where}: {self._lost.message}"
        return RunFailed(f"every rollout worker is lost; the last, {message}", self._lost.log)

    async def close_step(self, step: int, deadline_s: float = CONTROL_S) -> StepTotals:
        """Writes the ledger of a step whose episodes have all ended; the run's totals so far.

        With them what waits in the workers' pools at this moment. What has ended before is in the
        ledger, but for what a process has that did not answer, which a failure names, or that took
        it along when it died. What such a process comes to post later is in a later close.
        """
        (unposted, failures), waiting = await asyncio.gather(
            self._drain(deadline_s), self._pool_metrics()
        )
        closed = self.books.close_step.remote(step)
        closing = await within(deadline_s, "the books", closed, self.logs)
        failures = (*map(self.logs.told, dict.fromkeys(closing.failures)), *failures)
        if unposted > self._unposted:
            message = f"{unposted - self._unposted} ended calls could not be posted"
            failures += (Failure(FailureKind.INFRASTRUCTURE, "the books", message),)
            self._unposted = unposted
        totals = {**closing.totals, **waiting, "ledger/unposted": float(unposted)}
        return StepTotals(totals, failures)

    async def stop(self) -> Sequence[Failure]:
        """Closes the books and ends every actor; the engines first, with their own processes."""
        ending = [
            within(STOP_S, f"end of rollout worker {i}", worker.stop.remote())
            for i, worker in self.workers.items()
        ]
        await asyncio.gather(*ending, return_exceptions=True)
        try:
            failures = (await self.close_step(MEASUREMENT, STOP_S)).failures
        except RunFailed as error:
            kind, cause = FailureKind.INFRASTRUCTURE, error.__cause__
            failures = (self.logs.failure(kind, "the books", str(error), cause),)
        actors: list[Any] = [*self.workers.values(), *self.executors, self.scorer, self.books]
        for actor in actors:
            ray.kill(actor)
        return failures

    async def _drain(self, deadline_s: float) -> tuple[int, list[Failure]]:
        """Has every process post what it entered; how much the books never took in, and who failed.

        What one that failed has entered is unknown: it may be posted yet.
        """
        actors: dict[str, Any] = {
            **self._others(),
            **{f"rollout worker {i}": actor for i, actor in self.workers.items()},
        }
        del actors["the books"]
        settlement = [
            within(deadline_s, "its postings", actor.drain.remote()) for actor in actors.values()
        ]
        unposted, failures = 0, []
        for where, drained in zip(
            actors, await asyncio.gather(*settlement, return_exceptions=True), strict=True
        ):
            if isinstance(drained, RunFailed):
                kind, cause = FailureKind.INFRASTRUCTURE, drained.__cause__
                failures.append(self.logs.failure(kind, where, str(drained), cause))
            elif isinstance(drained, BaseException):
                raise drained
            else:
                unposted += drained
        return unposted, failures

    async def _pool_metrics(self) -> Mapping[str, float]:
        """Of the workers that answer."""
        asked = [
            within(FIGURES_S, "its pool", worker.pool_state.remote())
            for worker in self.workers.values()
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return metrics_of([one for one in answers if isinstance(one, PoolState)])

    async def peak_mib(self) -> Mapping[str, float]:
        """Peak memory by role, the largest of each role's processes; the driver's own too.

        An actor that does not answer is left out: a figure is no reason to end a run.
        """
        actors = [*self.workers.values(), *self.executors, self.scorer, self.books]
        asked = [within(FIGURES_S, "peak memory", actor.peak_mib.remote()) for actor in actors]
        peaks = {"driver": peak_mib()}
        for answer in await asyncio.gather(*asked, return_exceptions=True):
            for role, mib in answer.items() if isinstance(answer, Mapping) else ():
                peaks[role] = max(mib, peaks.get(role, 0.0))
        return {f"peak_mib/{role}": mib for role, mib in peaks.items()}
