"""Evaluates policies on the held-out tasks: the same tasks, toolset samples and seeds for all.

Every policy runs one episode per task; episodes in the log of an interrupted evaluation are not
repeated. A task that failed for any policy, or could not be graded, is left out for all. A failure
on a private task is reported by its kind only, since its message may quote the task.
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
from orchestra_ray.data.tasks.private import redact_private
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.driver.actor_calls import RunFailed
from orchestra_ray.driver.episode_accounting import Accounting
from orchestra_ray.driver.idle import Reasons
from orchestra_ray.driver.logs import failure_fields
from orchestra_ray.driver.worker_group import WorkerGroup
from orchestra_ray.evaluation.baselines import group_for_policy
from orchestra_ray.evaluation.compare import compare
from orchestra_ray.evaluation.episode_log import EpisodeLog, EvalEpisode
from orchestra_ray.evaluation.significance import subject
from orchestra_ray.evaluation.start import START
from orchestra_ray.evaluation.summary import Summary
from orchestra_ray.evaluation.tradeoffs import Tradeoffs, tradeoffs
from orchestra_ray.tracking.progress import phase
from orchestra_ray.tracking.redact import Redactor

MAX_FAILED_SHARE = 0.02  # of the episodes; beyond it the evaluation fails


@dataclass(frozen=True, slots=True)
class Comparison:
    """A summary per policy, the number of common tasks, and the trade-offs of accuracy and cost."""

    summaries: Mapping[str, Summary]
    tasks: int
    tradeoffs: Tradeoffs | None = None


class Evaluator:
    """Evaluates policies one after another; `comparison` compares them."""

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
        # As many as the engines run at once, so that no deadline runs while an episode queues.
        self._room = asyncio.Semaphore(
            max(1, len(worker_group.workers)) * config.rollout.max_sequences
        )
        self._episodes: dict[str, Mapping[int, EvalEpisode]] = {}
        self._unscorable = 0  # answers of the current policy

    async def evaluate(self, name: str, policy: str) -> None:
        """Runs the held-out tasks that the log lacks for `name`, on the workers in turn."""
        done = self._log.done(name)
        left = [n for n in range(self._config.evaluation.tasks) if n not in done]
        failures: list[Failure] = []
        self._unscorable = 0
        with phase(f"held-out tasks: {name}", len(left), self._config.tracking.progress) as bar:

            async def run(n: int) -> None:
                failure = await self._run_task(name, policy, n)
                if failure is not None:
                    failures.append(failure)
                bar.advance()

            await asyncio.gather(*(run(n) for n in left))
        self._accounting.check()
        if self._unscorable:
            self._worker_group.on_event("unscorable_answers", policy=name, count=self._unscorable)
        self._report_failures(name, failures)
        self._episodes[name] = self._log.done(name)

    def adopt(self, name: str, episodes: Mapping[int, EvalEpisode]) -> None:
        """Adds a policy that another run has evaluated on the same tasks."""
        self._episodes[name] = episodes

    def comparison(self) -> Comparison:
        """Compares all evaluated policies; raises `RunFailed` if they have no task in common."""
        evaluation, episodes = self._config.evaluation, self._episodes
        numbers = range(evaluation.tasks)
        groups = {
            n: self._group(n, "heldout")
            for n in numbers
            if all(n in of for of in episodes.values())
        }
        if not groups:
            raise RunFailed("held-out tasks: no task has an episode of every policy")
        start = START if START in episodes else None
        summaries = compare(episodes, groups, evaluation.bootstrap, evaluation.seed, start)
        own = subject(summaries)
        costs = tradeoffs(episodes, list(groups), own, evaluation.bootstrap, evaluation.seed)
        return Comparison(summaries, len(groups), costs)

    def _group(self, n: int, prefix: str) -> GroupSpec:
        return self._sampler.group(n, 1, prefix=prefix, greedy=self._config.evaluation.greedy)

    async def _run_task(self, name: str, policy: str, n: int) -> Failure | None:
        group = self._group(n, f"heldout/{name}")
        spec = group_for_policy(group, policy, self._config.evaluation, self._catalogue)
        (episode_id,) = (episode.episode_id for episode in spec.episodes)
        async with self._room:
            workers = list(self._worker_group.workers)
            if not workers:
                raise self._worker_group.no_worker_left()
            self._accounting.dispatch([episode_id])
            rollouts, lost = await self._worker_group.run_episodes(workers[n % len(workers)], spec)
        failure = lost.get(episode_id)
        for rollout in rollouts:
            verdict = await self._worker_group.grade(spec, rollout)
            if isinstance(verdict, Failure):
                failure = verdict
                continue
            self._unscorable += verdict.unscorable
            task, summary = spec.task, rollout.summary
            episode = EvalEpisode.of(n, task.task_id, task.family, summary, verdict.correct)
            unwritten = self._log.add(name, episode)
            if unwritten is not None:
                self._event(unwritten)
        if failure is not None:
            failure = redact_private(failure, spec.task)
        ended = Ended.EVALUATED if failure is None else Ended.failed(failure.kind)
        self._accounting.end(episode_id, ended)
        return failure

    def _report_failures(self, name: str, failures: Sequence[Failure]) -> None:
        """Records failures as events; raises `RunFailed` if there are too many."""
        reasons = Reasons()
        for failure, times in Counter(failures).items():
            self._event(failure, times)
        for failure in failures:
            reasons.add(failure)
        if not failures:
            return
        of = self._config.evaluation.tasks
        what = f"held-out tasks: {len(failures)} of {of} failed: {reasons.summary()}"
        if len(failures) > MAX_FAILED_SHARE * of:
            first = failures[0]
            line = f"{what}; the first at {first.where}; events.jsonl has every failure"
            raise RunFailed(line, reasons.log)
        line = f"{what}; they count for no policy ({name})"
        print(Redactor.of().text(line), file=sys.stderr, flush=True)

    def _event(self, failure: Failure, times: int = 1) -> None:
        self._worker_group.on_event("failure", **failure_fields(failure), times=times)
