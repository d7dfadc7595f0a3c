"""Carries out a run: prepares the policy and the cluster, starts actors, trains, compares, reports.

`train` evaluates the policy on the held-out tasks before and after training, and the baselines;
`evaluate` only evaluates. Both write `runs/<name>/` and leave nothing on the cluster.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra_ray.config import Config
from orchestra_ray.config.derived import cassette_of, recorded, run_folder
from orchestra_ray.core.policy_names import MODEL
from orchestra_ray.core.process_log import LogTail
from orchestra_ray.core.records import Preference
from orchestra_ray.core.states import Ended
from orchestra_ray.data.catalogue import Catalogue, read_catalogue
from orchestra_ray.data.preferences.load import load_heldout_preferences, load_preferences
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.data.tasks.source import Source, sources
from orchestra_ray.driver.actor_calls import RunFailed, kill
from orchestra_ray.driver.episode_accounting import Accounting
from orchestra_ray.driver.evaluator import Comparison, Evaluator
from orchestra_ray.driver.logs import log_fields
from orchestra_ray.driver.loop import Metrics, TrainingLoop, budget_is_spent, report
from orchestra_ray.driver.ray_session import Session, ray_session
from orchestra_ray.driver.run_folder import copy_inputs, releasing_unused_name
from orchestra_ray.driver.run_results import (
    kind_of_experts,
    show_table,
    show_trained,
    summary_json,
    write_results,
)
from orchestra_ray.driver.worker_group import WorkerGroup
from orchestra_ray.evaluation.baselines import budgets
from orchestra_ray.evaluation.episode_log import FILE, EpisodeLog
from orchestra_ray.evaluation.report.trained import LEAST_LR_TINY
from orchestra_ray.evaluation.start import START, start_of
from orchestra_ray.evaluation.summary import Summary
from orchestra_ray.sft import make_policy
from orchestra_ray.spend.budget import MEASUREMENT
from orchestra_ray.tracking.progress import Progress, phase
from orchestra_ray.tracking.tracker import METRICS_FILE, Tracker
from orchestra_ray.weights.actor import RegistryHandle, start_registry
from orchestra_ray.workers.learner.actor import LearnerGroup
from orchestra_ray.workers.tools.registry import available

BUDGET_ADVICE = "the run's spending limit is reached; raise spend.run_usd or spend.run_calls"


@dataclass(frozen=True, slots=True)
class RunResult:
    """The folder of the run, and its `summary.json` ({} without an evaluation)."""

    folder: Path
    summary: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EvalReport:
    """The folder of the evaluation, a summary per policy, and the number of tasks."""

    folder: Path
    policies: Mapping[str, Summary]
    tasks: int


@dataclass(frozen=True, slots=True)
class RunInputs:
    """The inputs of a run, loaded before any actor starts."""

    config: Config
    catalogue: Catalogue
    preferences: Sequence[Preference]
    train: GroupSampler
    heldout: GroupSampler


def train(config: Config) -> RunResult:
    """Trains and compares. Raises `RunFailed` or `LearnerFailed` if the run cannot continue.

    Raises `RunFailed` as well if the run trained nothing, after all files are written.
    """
    _warn_of_a_small_rate(config)
    return _run(config, training=True)[0]


def evaluate(config: Config) -> EvalReport:
    """Compares the policy of `config` with the baselines on the held-out tasks.

    Resumes from the run's folder: episodes in its log are not repeated.
    """
    result, measured = _run(recorded(config), training=False)
    return EvalReport(result.folder, measured.summaries, measured.tasks)


def load_inputs(config: Config) -> RunInputs:
    catalogue, absent = available(read_catalogue(config.catalogue), cassette_of(config))
    for line in absent.values():
        print(line, file=sys.stderr)
    preferences = load_preferences(config.catalogue)
    heldout = load_heldout_preferences(config.catalogue, config.evaluation.preferences)

    def sampler(source: Source, preferences: Sequence[Preference], seed: int) -> GroupSampler:
        return GroupSampler(source, catalogue, config.catalogue, preferences, seed)

    train, held_out = sources(config.tasks)
    return RunInputs(
        config=config,
        catalogue=catalogue,
        preferences=preferences,
        train=sampler(train, preferences, config.seed),
        heldout=sampler(held_out, heldout, config.evaluation.seed),
    )


def policy_folder(inputs: RunInputs) -> str:
    """Returns the folder of the initial policy; creates a tiny one unless it is cached."""
    model = inputs.config.model
    if model.path is not None:
        return model.path
    assert model.tiny is not None
    with phase("warm start", model.tiny.warmup_steps, inputs.config.tracking.progress) as bar:
        folder = make_policy(
            inputs.config, inputs.catalogue, inputs.preferences, lambda step, loss: bar.advance()
        )
    return str(folder)


def _run(config: Config, training: bool) -> tuple[RunResult, Comparison]:
    started_s = time.monotonic()
    inputs = load_inputs(config)
    steps = config.training.steps if training else 0
    with ray_session(config) as session:  # first, to report a cluster that is too small at once
        model_path = policy_folder(inputs)
        folder, recording = run_folder(config), Path(str(cassette_of(config).path))
        own_name = releasing_unused_name(folder, METRICS_FILE if training else FILE, recording)
        with own_name, Tracker.open(folder, config, steps) as tracker:
            run = _Run(inputs, session, tracker, model_path, training)
            report(tracker.event, copy_inputs(tracker.run_dir, config, tracker.redactor.text))
            try:
                measured = asyncio.run(run.execute())
            except (Exception, KeyboardInterrupt) as error:
                tracker.event("stopped", **_stopped(error))
                raise
            wall_s = time.monotonic() - started_s
            summary = summary_json(config, measured, wall_s) if measured.summaries else {}
            experts = kind_of_experts(inputs.catalogue)
            if summary:
                show_table(measured.summaries, experts)
            if training:
                show_trained(config, tracker.run_dir)
            for failure in write_results(config, tracker, summary, experts, wall_s):
                tracker.event("failure", where=failure.where, message=failure.message)
            if run.untrained is not None:
                error = RunFailed(f"{run.untrained}; run folder: {tracker.run_dir}")
                tracker.event("stopped", **_stopped(error))
                raise error
    return RunResult(run_folder(config), summary), measured


def _stopped(error: BaseException) -> dict[str, Any]:
    """Returns the fields of an event: the error that ended the run, with the log of its process."""
    log = getattr(error, "log", None)
    fields = log_fields(log if isinstance(log, LogTail) else None)
    return {"error": type(error).__name__, "message": str(error), **fields}


def _warn_of_a_small_rate(config: Config) -> None:
    """Warns of a rate for fine-tuning, which is too small for a policy trained from scratch."""
    lr = config.learner.lr
    if config.model.tiny is not None and lr < LEAST_LR_TINY:
        print(
            f"warning: learner.lr is {lr:g}: below {LEAST_LR_TINY:g} a tiny policy hardly changes;"
            " raise it (configs/quickstart.yaml has 0.005)",
            file=sys.stderr,
        )


class _Run:
    """The actors of one run, and its phases."""

    def __init__(
        self, inputs: RunInputs, session: Session, tracker: Tracker, model_path: str, training: bool
    ):
        self._inputs, self._config, self._training = inputs, inputs.config, training
        self._session, self._tracker, self._model_path = session, tracker, model_path
        self._accounting = Accounting()
        self.untrained: str | None = None  # why training trained nothing

    async def execute(self) -> Comparison:
        """Runs all phases; returns the comparison, empty if nothing was evaluated."""
        registry = start_registry()
        worker_group = WorkerGroup(
            self._config,
            self._inputs.catalogue,
            self._model_path,
            self._tracker.run_dir.absolute(),
            self._tracker.event,
            serves=self._training or self._config.evaluation.policy,
        )
        log = EpisodeLog(self._tracker.run_dir / FILE)
        evaluator = Evaluator(
            self._config,
            self._inputs.catalogue,
            worker_group,
            self._inputs.heldout,
            self._accounting,
            log,
        )
        try:
            spent = await self._run_phases(worker_group, registry, evaluator)
            if spent or not self._config.evaluation.tasks:
                return Comparison({}, 0)
            return evaluator.comparison()
        finally:
            log.close()
            self._tracker.event("accounting", **self._accounting.metrics())
            report(self._tracker.event, await worker_group.stop())
            kill(registry.actor)

    async def _run_phases(
        self, worker_group: WorkerGroup, registry: RegistryHandle, evaluator: Evaluator
    ) -> bool:
        """Returns whether the spending limit ended training; a comparison is then meaningless."""
        starting = worker_group.start(self._session.gcs_address, self._session.namespace, registry)
        evaluation = self._config.evaluation
        if self._training:
            learner, _ = await asyncio.gather(
                LearnerGroup.start(self._config, self._model_path, registry.actor), starting
            )
            await self._evaluate(worker_group, evaluator, START, [MODEL])
            spent = await self._train(worker_group, learner)
            await learner.stop()
            if spent:
                return True
            await self._evaluate(worker_group, evaluator, "after", budgets(MODEL, evaluation))
        else:
            await starting
            if evaluation.before:
                evaluator.adopt(START, start_of(self._config))
            if evaluation.policy:
                await self._evaluate(worker_group, evaluator, "policy", budgets(MODEL, evaluation))
        for name in evaluation.baselines:
            await self._evaluate(worker_group, evaluator, name.partition("@")[0], [name])
        return False

    async def _evaluate(
        self, worker_group: WorkerGroup, evaluator: Evaluator, name: str, policies: Sequence[str]
    ) -> None:
        """Evaluates policies as `name` in the summary, with the suffix of their turns, if any."""
        if self._config.evaluation.tasks == 0:
            return
        for policy in policies:
            await evaluator.evaluate(name + policy[len(policy.partition("@")[0]) :], policy)
            closed = await worker_group.close_step(MEASUREMENT)
            report(self._tracker.event, closed.failures)
            if budget_is_spent(closed.totals):
                raise RunFailed(f"held-out tasks: {name}: {BUDGET_ADVICE}")

    async def _train(self, worker_group: WorkerGroup, learner: LearnerGroup) -> bool:
        """Trains; returns whether it ended early, with a checkpoint, at the spending limit."""
        training, spent = self._config.training, False
        loop = TrainingLoop(
            self._config,
            self._inputs.train,
            worker_group,
            learner,
            self._accounting,
            self._tracker.event,
        )
        with Progress(training.steps, self._config.tracking.progress) as bar:

            async def after_step(step: int, metrics: Metrics) -> None:
                nonlocal spent
                self._tracker.step(step, metrics)
                bar.update(step, metrics)
                spent = budget_is_spent(metrics)
                due = training.checkpoint_every and step % training.checkpoint_every == 0
                ends = loop.idle.ending is not None and loop.version > 0
                if due or spent or ends or step == training.steps:
                    await self._save(learner, step)
                if spent:
                    self._tracker.event("stopped", step=step, reason=BUDGET_ADVICE)
                    untrained = "; nothing was trained" if loop.idle.nothing_trained() else ""
                    line = f"stopped after step {step}: {BUDGET_ADVICE}{untrained}"
                    print(line, file=sys.stderr)

            try:
                await loop.run(after_step)
            finally:
                self._accounting.end_all_in_flight(Ended.CANCELLED)
        # At the spending limit, the reason is printed already.
        self.untrained = None if spent else loop.idle.nothing_trained()
        return spent

    async def _save(self, learner: LearnerGroup, step: int) -> None:
        """Writes `checkpoints/step_N` and deletes the oldest beyond `keep_checkpoints`."""
        folder = self._tracker.run_dir.absolute() / "checkpoints"
        await learner.save(folder / f"step_{step}")
        by_age = sorted(folder.iterdir(), key=lambda path: int(path.name.removeprefix("step_")))
        for old in by_age[: -self._config.training.keep_checkpoints]:
            shutil.rmtree(old)
