"""Values that follow from a configuration and that several parts of a run need."""

from dataclasses import replace
from pathlib import Path

from orchestra_ray.config.enums import CassetteMode, Overlong
from orchestra_ray.config.schema import CassetteConfig, Config, TasksConfig

BENCHMARKS = {"frames", "hle"}  # sources that are held out as a whole, with judges of their own


def run_folder(config: Config) -> Path:
    return Path(config.runs_dir).expanduser() / config.name


def cassette_of(config: Config) -> CassetteConfig:
    """Returns the cassette's settings with the absolute path of its file."""
    given, folder = config.cassette.path, run_folder(config)
    path = folder / "cassette.sqlite" if given is None else Path(given).expanduser()
    return replace(config.cassette, path=str(path.absolute()))


def recorded(config: Config) -> Config:
    """Returns the configuration of an evaluation with a recording of its calls, if it can have one.

    A resumed evaluation then pays for no call twice, not even of interrupted episodes. Private
    tasks, a cluster of several machines and an explicit mode leave the configuration unchanged.
    """
    cassette, one_machine = config.cassette, config.cluster.address is None
    if cassette.mode is not CassetteMode.LIVE or not one_machine or has_private_tasks(config.tasks):
        return config
    return replace(config, cassette=replace(cassette, mode=CassetteMode.RECORD))


def overlong_of(config: Config) -> tuple[int, int] | None:
    """Returns (cap, margin) in tokens of a response if long ones lose reward, else None."""
    if config.training.overlong is not Overlong.PENALISE:
        return None
    cap = config.rollout.max_response_tokens
    return cap, max(1, round(cap * config.training.overlong_margin))


def context_tokens(config: Config) -> int:
    """Returns the length of the longest trajectory: a prompt at its limit and one response."""
    return config.rollout.max_prompt_tokens + config.rollout.max_response_tokens


def has_private_tasks(tasks: TasksConfig) -> bool:
    """Returns whether no file of a run may contain text of the tasks."""
    return tasks.private or tasks.source == "hle"
