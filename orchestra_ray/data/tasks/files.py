"""Tasks from files, checked as a whole, and divided into training and held-out tasks.

The division of a single file depends only on a hash of each question, so it is stable when rows
are added or moved, and rows with the same question are never on both sides. If held-out tasks have
their own file, no question may occur in both files.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra_ray.config.derived import BENCHMARKS, has_private_tasks
from orchestra_ray.config.schema import TasksConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.records import Task
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.tasks.formats import FORMATS, Problem
from orchestra_ray.data.tasks.private import PRIVATE
from orchestra_ray.data.tasks.rows import BadRow, rows

SEEDS = 2**63  # number of values of `derive_seed`


class FileTasks:
    """A `Source` of the given problems, as one family: tasks keep the mixture of their file."""

    endless = False

    def __init__(self, config: TasksConfig, problems: Iterable[Problem], skipped: int = 0):
        """`skipped`: number of rows that are not tasks, such as those with images."""
        self.families: Sequence[str] = [config.source]
        self.skipped = skipped
        self._config, self._problems = config, list(problems)

    @property
    def size(self) -> int:
        return len(self._problems)

    @property
    def judges(self) -> frozenset[str]:
        """The judges of its tasks."""
        return frozenset(_judge(self._config, problem) for problem in self._problems)

    def make(self, family_index: int, i: int) -> Task:
        problem, source = self._problems[i], self.families[family_index]
        payload: dict[str, Any] = {"answer": problem.answer, "judge": _judge(self._config, problem)}
        if problem.choices:
            payload["choices"] = list(problem.choices)
        if problem.tests:
            payload["tests"] = problem.tests
        if has_private_tasks(self._config):
            payload[PRIVATE] = True
        return Task(
            task_id=f"{source}/{problem.id}",
            family=problem.family or source,
            question=problem.question,
            payload=payload,
        )


def open_files(config: TasksConfig) -> tuple[FileTasks, FileTasks]:
    """Returns training and held-out tasks, either possibly empty; benchmarks are all held out.

    Raises `ConfigError` for the first mistake in a file.
    """
    train = heldout = _File([], 0)
    if config.path is not None:
        train = _whole(config, config.path, "tasks.path")
    if config.heldout_path is not None:
        heldout = _whole(config, config.heldout_path, "tasks.heldout_path")
        _check_apart(config, train, heldout)
    if config.source in BENCHMARKS:
        both = [located.problem for file in (train, heldout) for located in file.located]
        return FileTasks(config, []), FileTasks(config, both, train.skipped + heldout.skipped)
    if config.heldout_path is None:
        return _split(config, train)
    kept, apart = ([located.problem for located in file.located] for file in (train, heldout))
    return FileTasks(config, kept, train.skipped), FileTasks(config, apart, heldout.skipped)


def mistakes(config: TasksConfig, path: str) -> Sequence[str]:
    """Returns a line `file:line: mistake; remedy` for every mistake in a task file."""
    return _read(config, path, "the path").mistakes


@dataclass(frozen=True, slots=True)
class _Located:
    line: int
    problem: Problem


@dataclass(frozen=True, slots=True)
class _File:
    located: list[_Located]
    skipped: int
    mistakes: Sequence[str] = ()


def _whole(config: TasksConfig, path: str, key: str) -> _File:
    file = _read(config, path, key)
    if file.mistakes:
        more = len(file.mistakes) - 1
        raise ConfigError(file.mistakes[0] + (f" (and {more} more mistakes)" if more else ""))
    if not file.located:
        raise ConfigError(f"{path}: no tasks in it; set {key}")
    return file


def _read(config: TasksConfig, path: str, key: str) -> _File:
    located: list[_Located] = []
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
                raise BadRow(f"its id is also in line {first[problem.id]}; ids are unique")
            located.append(_Located(line, problem))
        except BadRow as error:
            found.append(f"{path}:{line}: {error}")
    return _File(located, skipped, found)


def _judge(config: TasksConfig, problem: Problem) -> str:
    """Returns the grader's name: the row's, else the configuration's, else the default.

    The default is `choice` for a row with choices, else that of the format.
    """
    by_format = "choice" if problem.choices else FORMATS[config.source].judge
    return problem.judge or config.judge or by_format


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
        return [located.problem for located in file.located if belongs(located.problem)]

    train = FileTasks(config, side(lambda problem: not is_held_out(problem)), file.skipped)
    return train, FileTasks(config, side(is_held_out))


def _check_apart(config: TasksConfig, train: _File, heldout: _File) -> None:
    lines = {_normal(located.problem.question): located.line for located in train.located}
    for located in heldout.located:
        line = lines.get(_normal(located.problem.question))
        if line is not None:
            problem = f"its question is also in {config.path}:{line}"
            raise ConfigError(f"{config.heldout_path}:{located.line}: {problem}; remove it")


def _normal(question: str) -> str:
    return " ".join(question.casefold().split())
