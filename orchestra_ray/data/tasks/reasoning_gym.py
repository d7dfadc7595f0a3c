"""Tasks from reasoning-gym: generated from a seed, scored by the family's own scorer.

A task is one entry of one family. Training and held-out tasks come from disjoint ranges of
generator seeds: entry i of a range that starts at s is generated from seed s + i.

Some scorers evaluate the answer. Only those of `checked_families` run in this process; the others
run in the sandbox (`orchestra_ray.sandbox.family_scorer`).
"""

from functools import cache
from typing import Any

import reasoning_gym

from orchestra_ray.config.schema import FamilyConfig, TasksConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.records import Task
from orchestra_ray.data.tasks.checked_families import CHECKED_FAMILIES
from orchestra_ray.data.tasks.scoring import Scored, score_answer
from orchestra_ray.data.tasks.source import OWN_SCORER

FAMILIES = tuple(reasoning_gym.factory.DATASETS)


class TaskSource:
    """A `Source` of the tasks of one seed range."""

    endless = True
    judges = frozenset({OWN_SCORER})

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
    """Returns the reference answer as text."""
    return str(task.payload["answer"])


def score_here(task: Task, answer: str) -> Scored:
    """Scores an answer in this process.

    Raises ValueError if the family is not checked, and `BrokenTask`.
    """
    if task.family not in CHECKED_FAMILIES:
        raise ValueError(f"{task.family}: its scorer is not checked and runs in the sandbox only")
    return score_answer(_scorer(task.family), answer.strip(), task.payload, reference(task).strip())


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
