"""Tasks from reasoning-gym: made from a seed, checked by the family's own scorer.

A task is one entry of one family. Train and held-out tasks come from disjoint ranges of generator
seeds: entry i of a range that starts at s is made from seed s + i.
"""

from functools import cache
from typing import Any

import reasoning_gym

from orchestra_ray.config.schema import FamilyConfig, TasksConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.records import Task


class TaskSource:
    """The tasks of one seed range: `make(family_index, i)` is a pure function of its arguments."""

    endless = True

    def __init__(self, families: list[FamilyConfig], seed: int, size: int):
        self.families = [family.name for family in families]
        self.size = size
        self._seed = seed
        self._datasets = [_dataset(family, seed, size) for family in families]

    @staticmethod
    def train(config: TasksConfig) -> "TaskSource":
        return TaskSource(config.families, config.train_seed, config.train_size)

    @staticmethod
    def heldout(config: TasksConfig) -> "TaskSource":
        return TaskSource(config.families, config.heldout_seed, config.heldout_size)

    def make(self, family_index: int, i: int) -> Task:
        family = self.families[family_index]
        entry = self._datasets[family_index][i]
        return Task(
            task_id=f"{family}/{self._seed + i}",
            family=family,
            question=entry["question"].strip(),
            payload=entry,
        )


def reference(task: Task) -> str:
    """The reference answer as text."""
    return str(task.payload["answer"])


def is_correct(task: Task, answer: str | None) -> bool:
    """The family's own scorer; only a full score counts as solved."""
    if answer is None:
        return False
    score = _scorer(task.family)(answer.strip(), task.payload)
    return score >= 1.0


def _dataset(family: FamilyConfig, seed: int, size: int) -> Any:
    try:
        return reasoning_gym.create_dataset(family.name, seed=seed, size=size, **family.settings)
    except ValueError as error:
        known = family.name in reasoning_gym.factory.DATASETS
        what = f"bad settings: {error}" if known else "reasoning-gym has no such family"
        raise ConfigError(f"tasks.families: {family.name}: {what}") from None
    except (TypeError, AssertionError) as error:
        raise ConfigError(f"tasks.families: {family.name}: bad settings: {error}") from None


@cache
def _scorer(family: str) -> Any:
    return reasoning_gym.get_score_answer_fn(family)
