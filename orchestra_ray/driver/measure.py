"""Measuring policies on the held-out tasks: the same tasks, draws and seeds for all of them.

Every policy plays each task once. Rewards are Eq. 2 over the pool of all compared policies'
episodes of a task, so they are comparable within one report and not across reports. A task that
any policy lost, or that could not be scored, counts for none of them.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestra_ray.config import Config
from orchestra_ray.core.money import usd
from orchestra_ray.core.records import GroupSpec
from orchestra_ray.core.states import Ended, Failure
from orchestra_ray.driver.accounting import Accounting
from orchestra_ray.driver.crew import Crew, RunFailed
from orchestra_ray.driver.selection import Rollout
from orchestra_ray.evaluation.metrics import EpisodeOutcome, Summary, summarise
from orchestra_ray.tasks.sampler import GroupSampler
from orchestra_ray.tracking.progress import phase

MAX_FAILED_SHARE = 0.02  # more lost episodes than this, and the figures mean nothing


@dataclass(frozen=True, slots=True)
class Played:
    """One policy's episodes by task number. What failed is missing from `rollouts`."""

    name: str
    rollouts: Mapping[int, Rollout]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A summary by policy, and the number of tasks that all of them are measured on."""

    summaries: Mapping[str, Summary]
    tasks: int


async def play_heldout(
    config: Config,
    crew: Crew,
    sampler: GroupSampler,
    accounting: Accounting,
    name: str,
    policy: str,
) -> Played:
    """Plays every held-out task once with `policy`; spread over the workers in turn.

    No more than the engines take at once, so that no episode's deadline runs while it queues.
    """
    room = asyncio.Semaphore(len(crew.workers) * config.rollout.max_sequences)
    specs = [
        sampler.group(n, 1, policy, prefix=f"heldout/{name}", greedy=config.evaluation.greedy)
        for n in range(config.evaluation.tasks)
    ]
    rollouts: dict[int, Rollout] = {}
    failed: dict[str, Failure] = {}
    with phase(f"held-out tasks: {name}", len(specs), config.tracking.progress) as bar:

        async def play(n: int, spec: GroupSpec) -> None:
            ids = [episode.episode_id for episode in spec.episodes]
            async with room:
                workers = list(crew.workers)
                if not workers:
                    raise RunFailed("every rollout worker is lost; events.jsonl says why")
                accounting.dispatch(ids)
                came_back, lost = await crew.play(workers[n % len(workers)], spec)
            if came_back:
                (rollouts[n],) = came_back
            failed.update(lost)
            for episode_id in ids:
                ended = Ended.failed(lost[episode_id].kind) if episode_id in lost else None
                accounting.end(episode_id, ended or Ended.EVALUATED)
            bar.advance()

        await asyncio.gather(*(play(n, spec) for n, spec in enumerate(specs)))
    accounting.check()
    _tell(crew, list(failed.values()), len(specs))
    return Played(name, rollouts)


async def score_together(
    config: Config, crew: Crew, sampler: GroupSampler, played: Sequence[Played]
) -> Comparison:
    """A summary for each policy, over the tasks that all of them have played."""
    tasks = [
        n for n in range(config.evaluation.tasks) if all(n in policy.rollouts for policy in played)
    ]
    failures: list[Failure] = []
    outcomes: dict[str, list[EpisodeOutcome]] = {policy.name: [] for policy in played}

    async def score(n: int) -> None:
        spec = sampler.group(n, 1, prefix="heldout")
        rollouts = [policy.rollouts[n] for policy in played]
        scored = await crew.score(spec, rollouts)
        if scored.failure is not None:
            failures.append(scored.failure)
            return
        for policy, rollout, episode in zip(played, rollouts, scored.episodes, strict=True):
            outcomes[policy.name].append(
                EpisodeOutcome(
                    task_id=spec.task.task_id,
                    correct=episode.correct,
                    cost_usd=usd(rollout.card.price_nanousd),
                    latency_s=rollout.card.latency_s,
                    reward=episode.reward,
                    turns=rollout.card.turns,
                )
            )

    await asyncio.gather(*(score(n) for n in tasks))
    _tell(crew, failures, len(tasks))
    resamples, seed = config.evaluation.bootstrap, config.evaluation.seed
    summaries = {
        name: summarise(sorted(found, key=lambda o: o.task_id), resamples, seed)
        for name, found in outcomes.items()
    }
    return Comparison(summaries, len(tasks) - len(failures))


def _tell(crew: Crew, failures: Sequence[Failure], of: int) -> None:
    """Writes down what failed; `RunFailed` where it is too much to measure anything."""
    for failure, times in Counter(failures).items():
        crew.on_event(
            "failure",
            failure=failure.kind.value,
            where=failure.where,
            message=failure.message,
            times=times,
        )
    if len(failures) > MAX_FAILED_SHARE * of:
        first = failures[0]
        raise RunFailed(
            f"held-out tasks: {len(failures)} of {of} failed, the first with "
            f"{first.kind}: {first.where}: {first.message}"
        )
