"""The training loop, for synchronous and asynchronous training.

Each group is awaited in an `asyncio.Task`, which ends with the scored group; the loop waits for
these, never for a timer. A step takes the next `groups_per_step` scored groups, trains on those
that pass the filters, publishes the weights, and dispatches new groups. All state is used from one
event loop.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from orchestra_ray.config import Config
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.money import usd
from orchestra_ray.core.records import GroupSpec
from orchestra_ray.core.states import Ended
from orchestra_ray.data.tasks.private import redact_private
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.driver.actor_calls import RunFailed
from orchestra_ray.driver.batch import dropped_sequences, training_sequences
from orchestra_ray.driver.dispatcher import Dispatcher
from orchestra_ray.driver.episode_accounting import Accounting
from orchestra_ray.driver.filters import FilteredGroup, ScoredGroup, TrainableEpisode, filter_group
from orchestra_ray.driver.idle import IdleSteps
from orchestra_ray.driver.logs import failure_fields
from orchestra_ray.driver.metrics import failure_metrics, filter_metrics, group_metrics
from orchestra_ray.driver.throughput import Throughput
from orchestra_ray.driver.worker_group import STREAM_MARGIN_S, OnEvent, WorkerGroup
from orchestra_ray.spend.accounts import RUN_REFUSED
from orchestra_ray.workers.learner.actor import LearnerGroup
from orchestra_ray.workers.reward.combinations import next_multiplier

Metrics = Mapping[str, float]


class TrainingLoop:
    """Samples, trains and publishes `config.training.steps` times."""

    def __init__(
        self,
        config: Config,
        sampler: GroupSampler,
        worker_group: WorkerGroup,
        learner: LearnerGroup,
        accounting: Accounting,
        on_event: OnEvent,
    ):
        self._training, self._reward = config.training, config.reward
        self._deadline_s = (
            config.rollout.episode_deadline_s + config.reward.deadline_s + 2 * STREAM_MARGIN_S
        )
        self._sampler, self._worker_group, self._learner = sampler, worker_group, learner
        self._accounting, self._on_event = accounting, on_event
        self._dispatcher = Dispatcher(
            steps=self._training.steps,
            groups_per_step=self._training.groups_per_step,
            max_staleness=self._training.max_staleness,
            workers=list(worker_group.workers),
        )
        self._scored: asyncio.Queue[ScoredGroup | Exception] = asyncio.Queue()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._throughput = Throughput()
        self._workers = len(worker_group.workers)
        self.idle = IdleSteps(self._training.idle_steps_max)
        self.version = 0

    async def run(self, on_step: Callable[[int, Metrics], Awaitable[None]]) -> None:
        """Runs all steps, and awaits `on_step(step, metrics)` after each, from 1 to `steps`.

        Ends early, after a complete step, if the spending limit of the run has refused a call.
        Raises `RunFailed` after a step at which `IdleSteps` ends the run.
        """
        try:
            for step in range(1, self._training.steps + 1):
                metrics = await self._step(step)
                await on_step(step, metrics)
                if budget_is_spent(metrics):
                    return
                if self.idle.ending is not None:
                    raise RunFailed(self.idle.ending, self.idle.log)
        finally:
            for task in self._in_flight:
                task.cancel()
            await asyncio.gather(*self._in_flight, return_exceptions=True)

    async def _step(self, step: int) -> Metrics:
        started_s, cpu_s = time.monotonic(), _cpu_s()
        self._dispatch()
        groups = await self._sample()
        generated_s, rates = time.monotonic(), self._throughput.take()
        self._dispatcher.step_ended()
        filtered = [self._filter(group) for group in groups]
        trainable = self._end_dropped(filtered)
        trained = await self._train(trainable)
        trained_s = time.monotonic()
        published = await self._publish() if trainable else {}
        ended_s = time.monotonic()
        self._accounting.check()
        measured = {
            **group_metrics(groups, self._worker_group.reward.combination),
            **rates,
            **self._update_multiplier(groups),
            **filter_metrics(groups, filtered),
            **failure_metrics(groups, filtered),
        }
        self.idle.after(step, groups, {**measured, **trained})
        closed = await self._worker_group.close_step(step - 1 - self._training.max_staleness)
        report(self._on_event, closed.failures)
        return {
            **measured,
            **trained,
            **published,
            **self._accounting.metrics(),
            "weight_version": self.version,
            "rollout_workers_lost": self._workers - len(self._worker_group.workers),
            "seconds/generate": generated_s - started_s,
            "seconds/train": trained_s - generated_s,
            "seconds/publish": ended_s - trained_s,
            "seconds/step": ended_s - started_s,
            "driver_cpu_s": _cpu_s() - cpu_s,
            **closed.totals,
            **await self._worker_group.peak_mib(),
        }

    async def _sample(self) -> list[ScoredGroup]:
        """Returns the next groups; with a sampling factor, until enough of them are trainable.

        This is DAPO's dynamic sampling (arXiv 2503.14476, section 3.2).
        """
        wanted, groups, trainable = self._training.groups_per_step, [], 0
        for batches_left in reversed(range(self._training.sampling_factor)):
            more = [await self._next_group() for _ in range(wanted - trainable)]
            self._dispatcher.consumed(len(more))
            groups += more
            trainable += sum(bool(self._filter(group).trainable) for group in more)
            if trainable >= wanted or not batches_left:
                break  # further groups would not be used by this step
            self._dispatch(wanted - trainable)
        return groups

    def _update_multiplier(self, groups: Sequence[ScoredGroup]) -> Metrics:
        """Updates the multiplier of a budgeted reward by the mean cost of the episodes."""
        settings = self._worker_group.reward
        summaries = [rollout.summary for group in groups for rollout in group.rollouts]
        if settings.combination != "budgeted" or settings.budget_usd is None or not summaries:
            return {}
        mean_usd = fmean(usd(summary.price_nanousd) for summary in summaries)
        rate = self._reward.multiplier_rate
        multiplier = next_multiplier(settings.multiplier, mean_usd, settings.budget_usd, rate)
        self._worker_group.reward = replace(settings, multiplier=multiplier)
        return {"reward/multiplier": multiplier}

    def _dispatch(self, wanted: int | None = None) -> None:
        """Dispatches all groups that are due; within a synchronous step, only `wanted` ones.

        Others would wait for the next step, and be stale in it.
        """
        for lost in set(self._dispatcher.workers) - self._worker_group.workers.keys():
            self._dispatcher.lost(lost)
        while (worker := self._dispatcher.next_worker(wanted)) is not None:
            step = self._dispatcher.step
            spec = self._sampler.next_group(self._training.group_size, step)
            self._accounting.dispatch(episode.episode_id for episode in spec.episodes)
            self._dispatcher.dispatched(worker)
            self._throughput.begin()
            task = asyncio.create_task(self._run_group(worker, spec))
            self._in_flight.add(task)  # the event loop itself holds tasks only weakly
            task.add_done_callback(self._in_flight.discard)

    async def _run_group(self, worker: int, spec: GroupSpec) -> None:
        try:
            group = await self._worker_group.run_and_score(worker, spec)
        except Exception as error:  # a bug: raised by the step that waits for the group
            self._throughput.end()
            self._scored.put_nowait(error)
            return
        summaries = [rollout.summary for rollout in group.rollouts]
        self._throughput.end(sum(summary.response_tokens for summary in summaries), len(summaries))
        self._dispatcher.returned(worker)
        self._scored.put_nowait(group)

    async def _next_group(self) -> ScoredGroup:
        if not self._worker_group.workers:
            raise self._worker_group.no_worker_left()
        try:
            async with asyncio.timeout(self._deadline_s):
                group = await self._scored.get()
        except TimeoutError:
            raise RunFailed(f"no group came back within {self._deadline_s:g} s") from None
        if isinstance(group, Exception):
            raise group
        self._report_failures(group)
        return group

    def _report_failures(self, group: ScoredGroup) -> None:
        failures: dict[Failure, list[str]] = {}
        for episode_id, failure in group.failed.items():
            failures.setdefault(failure, []).append(episode_id)
        if group.score.failure is not None:
            ids = [rollout.summary.episode_id for rollout in group.rollouts]
            failures.setdefault(group.score.failure, []).extend(ids)
        for failure, episode_ids in failures.items():
            fields = failure_fields(redact_private(failure, group.spec.task))
            self._on_event("failure", **fields, episodes=episode_ids)

    def _end_dropped(self, filtered: Sequence[FilteredGroup]) -> list[TrainableEpisode]:
        """Ends the dropped episodes in their terminal states; returns the trainable ones."""
        for group in filtered:
            for episode_id, state in group.dropped.items():
                self._accounting.end(episode_id, state)
        return [episode for group in filtered for episode in group.trainable]

    def _filter(self, group: ScoredGroup) -> FilteredGroup:
        stale_before = self.version - self._training.max_staleness
        return filter_group(group, stale_before, self._training.overlong)

    async def _train(self, trainable: Sequence[TrainableEpisode]) -> Metrics:
        if not trainable:
            return {"trained_episodes": 0}
        sequences = training_sequences(trainable, self._worker_group.reward)
        stats = await self._learner.train(sequences)
        for episode in trainable:
            self._accounting.end(episode.rollout.summary.episode_id, Ended.TRAINED)
        return {
            **stats,
            "trained_episodes": len(trainable),
            "trained_sequences": len(sequences),
            **dropped_sequences(trainable),
        }

    async def _publish(self) -> Metrics:
        self.version += 1
        published = await self._learner.publish(self.version)
        loaded = await self._worker_group.update_weights(self.version)
        return {
            **{f"publish/{key}": value for key, value in published.items()},
            **{f"load/{key}": value for key, value in loaded.items()},
        }


def budget_is_spent(totals: Metrics) -> bool:
    """Returns whether a spending limit of the whole run has refused a call."""
    return totals.get(RUN_REFUSED, 0.0) > 0


def report(on_event: OnEvent, failures: Iterable[Failure]) -> None:
    for failure in failures:
        on_event("failure", **failure_fields(failure))


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system
