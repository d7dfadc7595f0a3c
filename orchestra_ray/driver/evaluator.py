"""Measuring policies on the held-out tasks: the same tasks, draws and seeds for all of them.

Every policy plays each task once. What was measured before is not played again. A task that any
policy lost, or that could not be judged, counts for none of them. Why an episode of a private task
failed is told by the kind alone: a refusal may quote the task.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestra_ray.config import Config
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import GroupSpec
from orchestra_ray.core.states import Ended
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.private import told
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.driver.accounting import Accounting
from orchestra_ray.driver.idle import Reasons
from orchestra_ray.driver.logs import failure_fields
from orchestra_ray.driver.worker_group import RunFailed, WorkerGroup
from orchestra_ray.evaluation.baselines import seat
from orchestra_ray.evaluation.compare import compare
from orchestra_ray.evaluation.episode_log import EpisodeLog, EvalEpisode
from orchestra_ray.evaluation.significance import subject
from orchestra_ray.evaluation.start import START
from orchestra_ray.evaluation.summary import Summary
from orchestra_ray.evaluation.tradeoffs import Tradeoffs, tradeoffs
from orchestra_ray.tracking.progress import phase
from orchestra_ray.tracking.redact import Redactor

MAX_FAILED_SHARE = 0.02  # more lost episodes than this, and the figures mean nothing


@dataclass(frozen=True, slots=True)
class Comparison:
    """A summary by policy, the number of tasks that all are measured on; what accuracy costs."""

    summaries: Mapping[str, Summary]
    tasks: int
    tradeoffs: Tradeoffs | None = None


class Evaluator:
    """Plays policies, one after another; `comparison` says what they reached."""

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        worker_group: WorkerGroup,
        sampler: GroupSampler,
        accounting: Accounting,
        log: EpisodeLog,
    ):
        self._config, self._catalogue = config, catalogue
        self._worker_group, self._sampler, self._accounting, self._log = (
            worker_group,
            sampler,
            accounting,
            log,
        )
        # No more than the engines take at once, so that no deadline runs while an episode queues.
        self._room = asyncio.Semaphore(
            max(1, len(worker_group.workers)) * config.rollout.max_sequences
        )
        self._played: dict[str, Mapping[int, EvalEpisode]] = {}
        self._unscorable = 0  # answers of the policy that plays

    async def play(self, name: str, player: str) -> None:
        """Every held-out task that `name` has not played yet, spread over the workers in turn."""
        done = self._log.done(name)
        left = [n for n in range(self._config.evaluation.tasks) if n not in done]
        failures: list[Failure] = []
        self._unscorable = 0
        with phase(f"held-out tasks: {name}", len(left), self._config.tracking.progress) as bar:

            async def play(n: int) -> None:
                failure = await self._play_one(name, player, n)
                if failure is not None:
                    failures.append(failure)
                bar.advance()

            await asyncio.gather(*(play(n) for n in left))
        self._accounting.check()
        if self._unscorable:
            self._worker_group.on_event("unscorable_answers", policy=name, count=self._unscorable)
        self._tell(name, failures)
        self._played[name] = self._log.done(name)

    def adopt(self, name: str, played: Mapping[int, EvalEpisode]) -> None:
        """What another run has measured of the same tasks."""
        self._played[name] = played

    def comparison(self) -> Comparison:
        """Of all that has been played."""
        evaluation, played = self._config.evaluation, self._played
        numbers = range(evaluation.tasks)
        groups = {
            n: self._group(n, "heldout") for n in numbers if all(n in p for p in played.values())
        }
        if not groups:
            raise RunFailed("held-out tasks: there is none that every policy has played")
        start = START if START in played else None
        summaries = compare(played, groups, evaluation.bootstrap, evaluation.seed, start)
        own = subject(summaries)
        costs = tradeoffs(played, list(groups), own, evaluation.bootstrap, evaluation.seed)
        return Comparison(summaries, len(groups), costs)

    def _group(self, n: int, prefix: str) -> GroupSpec:
        return self._sampler.group(n, 1, prefix=prefix, greedy=self._config.evaluation.greedy)

    async def _play_one(self, name: str, player: str, n: int) -> Failure | None:
        group = self._group(n, f"heldout/{name}")
        spec = seat(group, player, self._config.evaluation, self._catalogue)
        (episode_id,) = (episode.episode_id for episode in spec.episodes)
        async with self._room:
            workers = list(self._worker_group.workers)
            if not workers:
                raise self._worker_group.no_worker_left()
            self._accounting.dispatch([episode_id])
            came_back, lost = await self._worker_group.play(workers[n % len(workers)], spec)
        failure = lost.get(episode_id)
        for rollout in came_back:
            verdict = await self._worker_group.judge(spec, rollout)
            if isinstance(verdict, Failure):
                failure = verdict
                continue
            self._unscorable += verdict.unscorable
            task, summary = spec.task, rollout.summary
            measured = EvalEpisode.of(n, task.task_id, task.family, summary, verdict.correct)
            unwritten = self._log.add(name, measured)
            if unwritten is not None:
                self._event(unwritten)
        if failure is not None:
            failure = told(failure, spec.task)
        ended = Ended.EVALUATED if failure is None else Ended.failed(failure.kind)
        self._accounting.end(episode_id, ended)
        return failure

    def _tell(self, name: str, failures: Sequence[Failure]) -> None:
        """Writes down what failed; `RunFailed` where it is too much to measure anything."""
        reasons = Reasons()
        for failure, times in Counter(failures).items():
            self._event(failure, times)
        for failure in failures:
            reasons.add(failure)
        if not failures:
            return
        of = self._config.evaluation.tasks
        what = f"held-out tasks: {len(failures)} of {of} failed: {reasons.words()}"
        if len(failures) > MAX_FAILED_SHARE * of:
            first = failures[0]
            line = f"{what}; the first at {first.where}; events.jsonl has every failure"
            raise RunFailed(line, reasons.log)
        line = f"{what}; they count for no policy ({name})"
        print(Redactor.of().text(line), file=sys.stderr, flush=True)

    def _event(self, failure: Failure, times: int = 1) -> None:
        self._worker_group.on_event("failure", **failure_fields(failure), times=times)
