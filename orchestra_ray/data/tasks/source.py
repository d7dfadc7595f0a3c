"""The interface of task sources, and its implementations by configured name."""

from collections.abc import Sequence
from typing import Protocol

from orchestra_ray.config.errors import BadValue
from orchestra_ray.config.schema import Config, TasksConfig
from orchestra_ray.core.records import Task

OWN_SCORER = "reasoning_gym"  # the default judge: the scorer of the task's family


class Source(Protocol):
    """`size` tasks of each family; `make` is a pure function of its arguments.

    `endless`: tasks are generated from seeds and sampled with replacement; otherwise each is
    sampled once per epoch.
    """

    @property
    def families(self) -> Sequence[str]: ...

    @property
    def size(self) -> int: ...

    @property
    def endless(self) -> bool: ...

    def make(self, family_index: int, i: int) -> Task: ...


def sources(tasks: TasksConfig) -> tuple[Source, Source]:
    """Returns training and held-out tasks; benchmarks have no training tasks.

    Raises `ConfigError` if the configured tasks cannot be loaded.
    """
    if tasks.source == "reasoning_gym":
        # Imported here because the task families take a second or two to import.
        from orchestra_ray.data.tasks.reasoning_gym import TaskSource

        return TaskSource.train(tasks), TaskSource.heldout(tasks)
    from orchestra_ray.data.tasks.files import open_files

    return open_files(tasks)


def check_sizes(config: Config, train: Source, heldout: Source, training: bool) -> None:
    """Raises `BadValue` if a run needs more tasks than there are."""
    if training and not train.size:
        problem = f"there are no tasks of {config.tasks.source} to train on"
        raise BadValue("tasks.source", problem, "use `orchestra eval`, or another source")
    available = heldout.size * len(heldout.families)
    if config.evaluation.tasks > available:
        problem = f"{config.evaluation.tasks} of {available} held-out tasks"
        raise BadValue("evaluation.tasks", problem, "lower it or hold out more")
