"""The prompt-only policy: episodes of the untrained model, taken from another run.

They are that run's row `before`, or `policy` if it was an evaluation. They are comparable if both
runs have the same tasks, toolsets and preferences. The other run's files are never written.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from orchestra_ray.config.errors import BadValue
from orchestra_ray.config.schema import Config
from orchestra_ray.config.start_checks import difference
from orchestra_ray.evaluation.episode_log import FILE, EvalEpisode, read_episodes

START = "before"  # the reference row of preference scores
SAME = ("seed", "tasks", "catalogue")
SAME_OF_EVALUATION = ("seed", "tools", "greedy", "preferences")


def start_of(config: Config) -> Mapping[int, EvalEpisode]:
    """Returns the episodes of all evaluated tasks, by number. Raises BadValue if any is missing."""
    assert config.evaluation.before is not None
    folder = Path(config.evaluation.before).expanduser()
    if not (folder / FILE).is_file() or not (folder / "config.yaml").is_file():
        raise _unfit(f"{folder}: no run that was evaluated", "name its folder")
    _check_same(config, folder)
    rows = read_episodes(folder / FILE)
    episodes = rows.get(START) or rows.get("policy", {})
    wanted = range(config.evaluation.tasks)
    if missing := [n for n in wanted if n not in episodes]:
        problem = f"{folder} has not evaluated {len(missing)} of {len(wanted)} tasks"
        raise _unfit(problem, "continue it with --resume, or lower evaluation.tasks")
    return {n: episodes[n] for n in wanted}


def check_before(config: Config, training: bool) -> None:
    """Raises BadValue if `evaluation.before` is set and cannot be used."""
    if config.evaluation.before is None:
        return
    if training:
        raise _unfit("training evaluates its own start", "leave it out")
    start_of(config)


def _check_same(config: Config, folder: Path) -> None:
    was: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    now: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    other = difference(_compared(was), _compared(now))
    if other is not None:
        raise _unfit(f"{folder} was evaluated with {other[0]}={other[1]}", "give that")


def _compared(config: Mapping[str, Any]) -> Mapping[str, Any]:
    evaluation = config.get("evaluation", {})
    return {key: config.get(key) for key in SAME} | {
        "evaluation": {key: evaluation.get(key) for key in SAME_OF_EVALUATION}
    }


def _unfit(problem: str, remedy: str) -> BadValue:
    return BadValue("evaluation.before", problem, remedy)
