"""A whole run: the policy, the cluster, the actors, training, the comparison, the files.

`train` plays the held-out tasks before and after training beside the baselines; `evaluate` only
measures. Both leave `runs/<name>/` behind and the cluster as they found it.
"""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestra_ray.catalogue import Catalogue, load_catalogue
from orchestra_ray.catalogue.preferences import load_preferences
from orchestra_ray.config import Config
from orchestra_ray.config.checks import check_start, run_folder
from orchestra_ray.core.records import Preference
from orchestra_ray.core.states import Ended
from orchestra_ray.driver.accounting import Accounting
from orchestra_ray.driver.crew import Crew
from orchestra_ray.driver.loop import Metrics, TrainingLoop
from orchestra_ray.driver.measure import Played, play_heldout, score_together
from orchestra_ray.driver.session import Session, ray_session
from orchestra_ray.evaluation.metrics import Summary
from orchestra_ray.evaluation.report import write_report
from orchestra_ray.evaluation.table import render_table
from orchestra_ray.learner.actor import LearnerGroup
from orchestra_ray.tasks.reasoning_gym import TaskSource
from orchestra_ray.tasks.sampler import GroupSampler
from orchestra_ray.tools.executor import check_executors
from orchestra_ray.tracking.progress import Progress, phase
from orchestra_ray.tracking.tracker import Tracker
from orchestra_ray.warmstart import make_policy
from orchestra_ray.weights.actor import start_board


@dataclass(frozen=True, slots=True)
class RunResult:
    """Where the run is, and its `summary.json` (None without an evaluation)."""

    folder: Path
    summary: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class World:
    """What the run is about, before anything of it is started."""

    config: Config
    catalogue: Catalogue
    preferences: Sequence[Preference]
    train: GroupSampler
    heldout: GroupSampler


def train(config: Config) -> RunResult:
    """Runs the whole of `config`. `ConfigError` before any actor starts, `RunFailed` after."""
    return _run(config, training=True)


def evaluate(config: Config) -> RunResult:
    """Measures the policy of `config` and the baselines on the held-out tasks."""
    return _run(config, training=False)


def prepare(config: Config) -> World:
    """Loads catalogue and tasks; every mistake that they can hold is found here."""
    check_start(config)
    catalogue = load_catalogue(config.catalogue.path)
    check_executors(catalogue)
    preferences = load_preferences(config.catalogue)

    def sampler(source: TaskSource, seed: int) -> GroupSampler:
        return GroupSampler(source, catalogue, config.catalogue, preferences, seed)

    return World(
        config=config,
        catalogue=catalogue,
        preferences=preferences,
        train=sampler(TaskSource.train(config.tasks), config.seed),
        heldout=sampler(TaskSource.heldout(config.tasks), config.evaluation.seed),
    )


def _run(config: Config, training: bool) -> RunResult:
    started_s = time.monotonic()
    world = prepare(config)
    model_path = _policy_folder(world)
    steps = config.training.steps if training else 0
    with ray_session(config) as session:
        with Tracker.open(run_folder(config), config, steps) as tracker:
            run = Run(world, session, tracker, model_path)
            summary = asyncio.run(run.play(training))
            if summary is not None:
                summary["wall_s"] = time.monotonic() - started_s
                _write_results(config, tracker, summary)
    return RunResult(run_folder(config), summary)


def _policy_folder(world: World) -> str:
    config = world.config
    if config.model.path is not None:
        return config.model.path
    assert config.model.tiny is not None
    with phase("warm start", config.model.tiny.warmup_steps, config.tracking.progress) as bar:
        folder = make_policy(
            config, world.catalogue, world.preferences, lambda step, loss: bar.advance()
        )
    return str(folder)


class Run:
    """The actors of one run and what is done with them."""

    def __init__(self, world: World, session: Session, tracker: Tracker, model_path: str):
        self._world, self._config = world, world.config
        self._session, self._tracker, self._model_path = session, tracker, model_path
        self._accounting = Accounting()

    async def play(self, training: bool) -> dict[str, Any] | None:
        """The summary without its wall time, or None where nothing is evaluated."""
        config = self._config
        board = start_board()
        crew = Crew(config, self._world.catalogue, self._model_path)
        starting = [crew.start(self._session.gcs_address, self._session.namespace, board.name)]
        learner = None
        if training:
            learner, _ = await asyncio.gather(
                LearnerGroup.start(config, self._model_path, board.handle), *starting
            )
        else:
            await asyncio.gather(*starting)
        before = await self._measure(crew, "before" if training else "policy", "model")
        if learner is not None:
            await self._train(crew, learner)
        if before is None:
            return None
        after = await self._measure(crew, "after", "model") if training else None
        baselines = [await self._measure(crew, n, n) for n in config.evaluation.baselines]
        played = [p for p in (before, after, *baselines) if p is not None]
        summaries = await score_together(config, crew, self._world.heldout, played)
        return self._summary(summaries)

    async def _measure(self, crew: Crew, name: str, policy: str) -> Played | None:
        if self._config.evaluation.tasks == 0:
            return None
        heldout = self._world.heldout
        return await play_heldout(self._config, crew, heldout, self._accounting, name, policy)

    async def _train(self, crew: Crew, learner: LearnerGroup) -> None:
        config, folder = self._config, self._tracker.run_dir
        loop = TrainingLoop(
            config, self._world.train, crew, learner, self._accounting, self._tracker.event
        )
        with Progress(config.training.steps, config.tracking.progress) as bar:

            async def after_step(step: int, metrics: Metrics) -> None:
                self._tracker.step(step, metrics)
                bar.update(step, metrics)
                if step == config.training.steps or _due(step, config.training.checkpoint_every):
                    await learner.save(folder / "checkpoints" / f"step_{step}")

            try:
                await loop.run(after_step)
            finally:
                self._accounting.end_all_in_flight(Ended.CANCELLED)

    def _summary(self, summaries: Mapping[str, Summary]) -> dict[str, Any]:
        rows = {name: summary.to_json() for name, summary in summaries.items()}
        baselines = {name: rows[name] for name in self._config.evaluation.baselines}
        policy = {name: row for name, row in rows.items() if name not in baselines}
        return {**policy, "baselines": baselines, "tasks": self._config.evaluation.tasks}


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _write_results(config: Config, tracker: Tracker, summary: Mapping[str, Any]) -> None:
    folder = tracker.run_dir
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    tracker.summary(summary)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    write_report(folder / "report.html", summary, [json.loads(line) for line in lines], {})
