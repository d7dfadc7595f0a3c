"""One interface to all tasks, and the sources behind it by the name in the configuration."""

from collections.abc import Sequence
from typing import Protocol

from orchestra_ray.config.errors import BadValue
from orchestra_ray.config.schema import Config, TasksConfig
from orchestra_ray.core.records import Task

OWN_SCORER = "reasoning_gym"  # the judge of a task that names none: its family's own scorer


class Source(Protocol):
    """`size` tasks of each family; `make` is a pure function of its arguments.

    `endless`: tasks are made from seeds and are drawn with replacement; else each is dealt once
    before any is dealt again.
    """

    @property
    def families(self) -> Sequence[str]: ...

    @property
    def size(self) -> int: ...

    @property
    def endless(self) -> bool: ...

    def make(self, family_index: int, i: int) -> Task: ...


def sources(tasks: TasksConfig) -> tuple[Source, Source]:
    """The training tasks and the held-out ones; `ConfigError` where there are none to be had.

    Of a source that is only measured the training tasks are empty.
    """
    if tasks.source == "reasoning_gym":
        # Inside: importing the task families takes a second or two.
        from orchestra_ray.data.tasks.reasoning_gym import TaskSource

        return TaskSource.train(tasks), TaskSource.heldout(tasks)
    from orchestra_ray.data.tasks.files import open_files

    return open_files(tasks)


def check_sizes(config: Config, train: Source, heldout: Source, training: bool) -> None:
    """`BadValue` where a run would need tasks that are not there."""
    if training and not train.size:
        problem = f"there are no tasks of {config.tasks.source} to train on"
        raise BadValue("tasks.source", problem, "use `orchestra eval`, or another source")
    there = heldout.size * len(heldout.families)
    if config.evaluation.tasks > there:
        problem = f"{config.evaluation.tasks} of {there} held-out tasks"
        raise BadValue("evaluation.tasks", problem, "lower it or hold out more")
