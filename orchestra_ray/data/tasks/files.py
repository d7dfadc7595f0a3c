"""Tasks from a file: read whole, checked whole, and divided into train and held-out ones.

Which side a task of one file falls on is decided by a hash of its question alone, so it stays
there when rows are added or moved, and two rows of one question are never on both sides. No
question of a file of held-out tasks stands in the file of the others.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra_ray.config.schema import TasksConfig
from orchestra_ray.config.validation import BENCHMARKS, is_private
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.records import Task
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.tasks.formats import FORMATS, Problem
from orchestra_ray.data.tasks.private import PRIVATE
from orchestra_ray.data.tasks.rows import BadRow, rows

SEEDS = 2**63  # as many as `derive_seed` has


class FileTasks:
    """A `Source` of the problems given. One family: tasks keep the mixture of their file."""

    endless = False

    def __init__(self, config: TasksConfig, problems: Iterable[Problem], skipped: int = 0):
        """`skipped`: rows of the file that are no tasks, such as those with images."""
        self.families: Sequence[str] = [config.source]
        self.skipped = skipped
        self._config, self._problems = config, list(problems)

    @property
    def size(self) -> int:
        return len(self._problems)

    @property
    def judges(self) -> frozenset[str]:
        """Which its tasks ask for."""
        return frozenset(_judge(self._config, problem) for problem in self._problems)

    def make(self, family_index: int, i: int) -> Task:
        problem, source = self._problems[i], self.families[family_index]
        payload: dict[str, Any] = {"answer": problem.answer, "judge": _judge(self._config, problem)}
        if problem.choices:
            payload["choices"] = list(problem.choices)
        if problem.tests:
            payload["tests"] = problem.tests
        if is_private(self._config):
            payload[PRIVATE] = True
        return Task(
            task_id=f"{source}/{problem.id}",
            family=problem.family or source,
            question=problem.question,
            payload=payload,
        )


def open_files(config: TasksConfig) -> tuple[FileTasks, FileTasks]:
    """Train and held-out tasks; `ConfigError` for the first mistake in a file.

    A benchmark is held out whole. Either may be empty.
    """
    train = heldout = _File([], 0)
    if config.path is not None:
        train = _whole(config, config.path, "tasks.path")
    if config.heldout_path is not None:
        heldout = _whole(config, config.heldout_path, "tasks.heldout_path")
        _check_apart(config, train, heldout)
    if config.source in BENCHMARKS:
        both = [placed.problem for file in (train, heldout) for placed in file.placed]
        return FileTasks(config, []), FileTasks(config, both, train.skipped + heldout.skipped)
    if config.heldout_path is None:
        return _split(config, train)
    kept, apart = ([placed.problem for placed in file.placed] for file in (train, heldout))
    return FileTasks(config, kept, train.skipped), FileTasks(config, apart, heldout.skipped)


def mistakes(config: TasksConfig, path: str) -> Sequence[str]:
    """A line `file:line: what; what to do` for every mistake in a file of tasks."""
    return _read(config, path, "the path").mistakes


@dataclass(frozen=True, slots=True)
class _Placed:
    line: int
    problem: Problem


@dataclass(frozen=True, slots=True)
class _File:
    placed: list[_Placed]
    skipped: int
    mistakes: Sequence[str] = ()


def _whole(config: TasksConfig, path: str, key: str) -> _File:
    file = _read(config, path, key)
    if file.mistakes:
        more = len(file.mistakes) - 1
        raise ConfigError(file.mistakes[0] + (f" (and {more} more mistakes)" if more else ""))
    if not file.placed:
        raise ConfigError(f"{path}: no tasks in it; set {key}")
    return file


def _read(config: TasksConfig, path: str, key: str) -> _File:
    placed: list[_Placed] = []
    found: list[str] = []
    first: dict[str, int] = {}
    skipped = 0
    for line, row in rows(Path(path), key):
        try:
            if isinstance(row, BadRow):
                raise row
            problem = FORMATS[config.source].read(row, line)
            if problem is None:
                skipped += 1
                continue
            _check_judge(config, problem)
            if first.setdefault(problem.id, line) != line:
                raise BadRow(f"its id stands in line {first[problem.id]} too; ids are unique")
            placed.append(_Placed(line, problem))
        except BadRow as error:
            found.append(f"{path}:{line}: {error}")
    return _File(placed, skipped, found)


def _judge(config: TasksConfig, problem: Problem) -> str:
    """The row's own, else the configuration's, else the format's."""
    by_form = "choice" if problem.choices else FORMATS[config.source].judge
    return problem.judge or config.judge or by_form


def _check_judge(config: TasksConfig, problem: Problem) -> None:
    judge = _judge(config, problem)
    if judge == "code" and not problem.tests:
        raise BadRow("no tests, which the judge code runs; give `tests`, or another judge")
    if judge != "code" and not problem.answer:
        raise BadRow(f"no answer for the judge {judge} to compare with; give `answer`")


def _split(config: TasksConfig, file: _File) -> tuple[FileTasks, FileTasks]:
    def is_held_out(problem: Problem) -> bool:
        seed = derive_seed(config.split_seed, "held out", _normal(problem.question))
        return seed < config.heldout_share * SEEDS

    def side(belongs: Callable[[Problem], bool]) -> list[Problem]:
        return [placed.problem for placed in file.placed if belongs(placed.problem)]

    train = FileTasks(config, side(lambda problem: not is_held_out(problem)), file.skipped)
    return train, FileTasks(config, side(is_held_out))


def _check_apart(config: TasksConfig, train: _File, heldout: _File) -> None:
    lines = {_normal(placed.problem.question): placed.line for placed in train.placed}
    for placed in heldout.placed:
        line = lines.get(_normal(placed.problem.question))
        if line is not None:
            problem = f"its question stands in {config.path}:{line} too"
            raise ConfigError(f"{config.heldout_path}:{placed.line}: {problem}; leave it out there")


def _normal(question: str) -> str:
    return " ".join(question.casefold().split())
