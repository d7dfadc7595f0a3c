"""`orchestra judge`: the judges' verdicts on labelled answers.

A row is {judge, reference, answer, right, question?, choices?, tests?, private?} or, for a family
of reasoning-gym, {judge: reasoning_gym, family, seed, settings?, answer, right, private?}. The
judges are those of a run, through the same `GraderRegistry`. All rows are checked before the first
verdict. Of a private row only its line, its judge and the verdict are printed.
"""

import asyncio
import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from orchestra_ray.cli.ledger_table import ledger_table
from orchestra_ray.cli.tables import add_row, plain_table, show
from orchestra_ray.config.schema import Config, FamilyConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import (
    EpisodeSpec,
    GroupSpec,
    Preference,
    Task,
    ToolsetSample,
    Trajectory,
)
from orchestra_ray.core.states import Stop
from orchestra_ray.data.catalogue import Catalogue, read_catalogue
from orchestra_ray.data.tasks.private import PRIVATE, is_private
from orchestra_ray.data.tasks.reasoning_gym import FAMILIES, TaskSource, reference
from orchestra_ray.data.tasks.rows import BadRow, Row, rows
from orchestra_ray.data.tasks.source import OWN_SCORER
from orchestra_ray.sandbox.family_scorer import require
from orchestra_ray.sandbox.run import check
from orchestra_ray.spend.budget import limits_of
from orchestra_ray.spend.ledger import table
from orchestra_ray.spend.local import LocalSpendClient
from orchestra_ray.spend.summary import By, spend_summary
from orchestra_ray.tracking.progress import phase
from orchestra_ray.workers.reward.judges.hotpotqa import f1
from orchestra_ray.workers.reward.judges.llm import judge_entry
from orchestra_ray.workers.reward.judges.registry import (
    NAMES,
    GraderInputs,
    GraderRegistry,
    grader_inputs,
    grader_of,
)
from orchestra_ray.workers.reward.judges.rules import RULES
from orchestra_ray.workers.reward.judges.verdict import Verdict
from orchestra_ray.workers.tools.availability import check_keys

AT_ONCE = 16  # answers; few enough that none exceeds its deadline in the queue
SHOWN_CHARACTERS = 60
_WORDS = {True: "right", False: "wrong"}
_KEYS = (
    *("judge", "reference", "answer", "right", "question", "choices", "tests"),
    *("family", "seed", "settings", "private", "id"),
)
_BENCHMARK = {"hotpotqa", "hotpotqa_f1"}  # judges whose mean F1 is printed too


@dataclass(frozen=True, slots=True)
class Case:
    line: int
    task: Task
    answer: str
    right: bool

    @property
    def judge(self) -> str:
        return grader_of(self.task)


@dataclass(frozen=True, slots=True)
class Judged:
    case: Case
    verdict: Verdict | Failure

    @property
    def agrees(self) -> bool:
        return isinstance(self.verdict, Verdict) and self.verdict.correct == self.case.right


def judge_cases(path: Path, config: Config | None) -> bool:
    """Prints the verdicts that differ from the labels, and counts; returns whether all agree."""
    cases = read_cases(path, can_ask=config is not None)
    judges = {case.judge for case in cases}
    spend = None if config is None else LocalSpendClient(limits_of(config.spend), config.name)
    inputs = _inputs(config, judges)
    _check_sandbox(cases)
    try:
        judged = asyncio.run(_judge_all(cases, GraderRegistry(inputs, spend)))
    finally:
        if spend is not None and spend.entries:
            show(ledger_table(spend_summary(table("judge", spend.entries), By.MODEL), By.MODEL))
    differing = [one for one in judged if not one.agrees]
    for one in differing:
        print(line_of(path, one))
    show(counts_table(judged))
    return not differing


def read_cases(path: Path, can_ask: bool) -> list[Case]:
    """Raises ConfigError for the first row that cannot be judged."""
    cases = []
    for line, row in rows(path, "CASES to a file that can be read"):
        try:
            if isinstance(row, BadRow):
                raise row
            case = Case(line, _task(row), _answer(row), _label(row))
            if case.judge in RULES and not can_ask:
                problem = f"the judge {case.judge} asks a model"
                raise BadRow(f"{problem}; give --config FILE with judge.model, or leave it out")
        except (BadRow, ConfigError) as error:
            raise ConfigError(f"{path}:{line}: {error}") from None
        cases.append(case)
    if not cases:
        raise ConfigError(f"{path}: no rows in it; write a JSON object on each line")
    return cases


def line_of(path: Path, judged: Judged) -> str:
    case, verdict = judged.case, judged.verdict
    place = f"{path}:{case.line}: {case.judge}"
    shown = "private" if is_private(case.task) else _quoted(case)
    if isinstance(verdict, Failure):
        why = verdict.kind.value if is_private(case.task) else verdict.message
        return f"{place}: {shown}: no verdict ({why}), should be {_WORDS[case.right]}"
    found = f"{_WORDS[verdict.correct]} ({verdict.reason})"
    return f"{place}: {shown}: {found}, should be {_WORDS[case.right]}"


def counts_table(judged: Sequence[Judged]) -> Table:
    """Returns a row for each judge; "wrongly right" counts wrong answers judged right."""
    columns = ["answers", "agree", "wrongly right", "wrongly wrong", "no verdict"]
    names = list(dict.fromkeys(one.case.judge for one in judged))
    has_f1 = any(name in _BENCHMARK for name in names)
    made = plain_table(["judge"], [*columns, *(["mean F1"] if has_f1 else [])])
    for name in names:
        of_judge = [one for one in judged if one.case.judge == name]
        cells = [name, *(str(count) for count in _counts(of_judge))]
        add_row(made, [*cells, *([_mean_f1(name, of_judge)] if has_f1 else [])])
    if len(names) > 1:
        made.add_section()
        total = ["total", *(str(count) for count in _counts(judged))]
        add_row(made, [*total, *([""] if has_f1 else [])], bold=True)
    return made


def _counts(judged: Sequence[Judged]) -> list[int]:
    differing = [one for one in judged if not one.agrees]
    verdicts = [one.verdict for one in differing if isinstance(one.verdict, Verdict)]
    wrongly_right = sum(verdict.correct for verdict in verdicts)
    agree, failed = len(judged) - len(differing), len(differing) - len(verdicts)
    return [len(judged), agree, wrongly_right, len(verdicts) - wrongly_right, failed]


def _mean_f1(name: str, judged: Sequence[Judged]) -> str:
    if name not in _BENCHMARK:
        return ""
    scores = [f1(reference(one.case.task), one.case.answer) for one in judged]
    return f"{sum(scores) / len(scores):.1%}"


def _quoted(case: Case) -> str:
    right, answer = (_shown(text) for text in (reference(case.task), case.answer))
    return f"reference {right}, answer {answer}"


def _shown(text: str) -> str:
    """Returns the text on one line, shortened to its end, where the result is."""
    line = " ".join(text.split())
    return repr(line if len(line) <= SHOWN_CHARACTERS else f"...{line[-SHOWN_CHARACTERS:]}")


async def _judge_all(cases: Sequence[Case], graders: GraderRegistry) -> list[Judged]:
    room = asyncio.Semaphore(AT_ONCE)
    with phase("judging", len(cases), enabled=len(cases) > AT_ONCE) as bar:

        async def one(case: Case) -> Judged:
            async with room:
                found = await graders.verdicts(*_group(case))
            bar.advance()
            return Judged(case, found if isinstance(found, Failure) else found[0])

        try:
            return list(await asyncio.gather(*map(one, cases)))
        finally:
            await graders.close()


def _group(case: Case) -> tuple[GroupSpec, list[Trajectory]]:
    """Returns a group of one episode with the answer, the input of `GraderRegistry`."""
    name = f"line/{case.line}"
    preference = Preference("judge", "", 1.0, 0.0, 0.0)
    group = GroupSpec(name, 0, case.task, ToolsetSample(0, ()), preference, (EpisodeSpec(name, 0),))
    none, no_logprobs = np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32)
    trajectory = Trajectory(
        episode_id=name,
        tokens_T=none,
        mask_T=none > 0,
        logprobs_T=no_logprobs,
        versions_T=none,
        turns=(),
        ledger=(),
        answer=case.answer,
        stop=Stop.ANSWERED,
    )
    return group, [trajectory]


def _inputs(config: Config | None, judges: set[str]) -> GraderInputs:
    if config is None:
        return GraderInputs()
    catalogue = read_catalogue(config.catalogue)
    if judges & RULES.keys():
        check_keys(Catalogue({"judge": judge_entry(catalogue, config.judge)}, ""))
    return replace(grader_inputs(config, catalogue), folder=None)  # without files


def _check_sandbox(cases: Sequence[Case]) -> None:
    if any(case.judge == "code" for case in cases) and (why := check()) is not None:
        raise ConfigError(f"the judge code runs programs: {why}")


def _task(row: Row) -> Task:
    judge = row.get("judge")
    if judge not in NAMES:
        raise BadRow(f"`judge` names none; choose from {', '.join(NAMES)}")
    for key in row:
        if key not in _KEYS:
            raise BadRow(f"there is no key `{key}`; {hint(key, _KEYS)}")
    private = {PRIVATE: True} if _typed(row, "private", bool, False) else {}
    if judge == OWN_SCORER:
        made = _generated(row)
        return replace(made, payload={**made.payload, **private})
    tests = _typed(row, "tests", str, "")
    if judge == "code" and not tests:
        raise BadRow("no `tests`, which the judge code runs; give them as text")
    right = "" if judge == "code" and row.get("reference") is None else _text(row, "reference")
    choices = _typed(row, "choices", list, [])
    if not all(isinstance(choice, str) for choice in choices):
        raise BadRow("`choices` is no list of texts; write the texts of the choices")
    payload = {"judge": judge, "answer": right, "choices": choices, "tests": tests, **private}
    return Task(str(row.get("id", "case")), "cases", _typed(row, "question", str, ""), payload)


def _generated(row: Row) -> Task:
    family, seed = _typed(row, "family", str), _typed(row, "seed", int)
    settings = _typed(row, "settings", dict, {})
    if family not in FAMILIES:
        raise BadRow(f"`family`: reasoning-gym has no {family}; {hint(family, FAMILIES)}")
    require([family])
    return TaskSource([FamilyConfig(family, settings=settings)], seed, 1).make(0, 0)


def hint(given: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(given, known, n=1)
    return f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"


def _answer(row: Row) -> str:
    value = row.get("answer")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise BadRow("`answer` is no text; write what the model answered")
    return value


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value):
        raise BadRow(f"`{key}` is no text and no number; write the right answer")
    return str(value)


def _label(row: Row) -> bool:
    if not isinstance(row.get("right"), bool):
        raise BadRow("`right` is neither true nor false; write the expected verdict")
    return row["right"]


def _typed(row: Row, key: str, kind: Callable[..., Any], *default: Any) -> Any:
    value = row.get(key)
    if value is None and default:
        return default[0]
    assert isinstance(kind, type)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {str: "a text", int: "a whole number", bool: "true or false", list: "a list"}
        raise BadRow(f"`{key}` is not {names.get(kind, 'an object')}; write it so")
    return value
