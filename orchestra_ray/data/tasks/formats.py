"""Row formats of task files, with one reader for each source.

A reader returns a `Problem`, or None for a row that is validly skipped, or raises a `BadRow`, which
never quotes the row. Fields that readers do not name, such as a benchmark's canary, never leave
this module.
"""

import difflib
import re
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from orchestra_ray.config.ranges import JudgeName
from orchestra_ray.data.catalogue.parsers import Parser, find_marked
from orchestra_ray.data.tasks.rows import BadRow, Row

LETTERS = string.ascii_uppercase


@dataclass(frozen=True, slots=True)
class Problem:
    """A task row. `judge` of None: unspecified. `tests`: Python that a correct program passes."""

    id: str
    question: str
    answer: str
    judge: str | None = None
    family: str | None = None
    choices: tuple[str, ...] = ()
    tests: str = ""


@dataclass(frozen=True, slots=True)
class Format:
    """A format's reader, and its judge if neither the row nor the configuration names one."""

    read: Callable[[Row, int], Problem | None]
    judge: str


def _plain(row: Row, line: int) -> Problem:
    """Reads {id, question, answer, choices?, family?, judge?, tests?}; code needs no answer."""
    _refuse_near_misses(row, ("choices", "family", "judge", "tests"))
    judge, tests, choices = _judge(row), _tests(row), _choices(row)
    if judge == "code" and not tests:
        raise BadRow("no tests, which the judge code runs; give `tests`")
    answer = "" if tests and row.get("answer") is None else _text(row, "answer")
    if choices:
        _check_choice(answer, choices)
    question = _text(row, "question")
    if choices:
        listed = (f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
        question = "\n".join([question, "", *listed])
    family = _text(row, "family") if row.get("family") is not None else None
    return Problem(_text(row, "id"), question, answer, judge, family, choices, tests)


def _gsm8k(row: Row, line: int) -> Problem:
    solution = _text(row, "answer")
    _, mark, number = solution.rpartition("####")
    number = number.strip().replace(",", "")
    if not mark or not re.fullmatch(r"-?\$?\d*\.?\d+", number):
        raise BadRow("no number after ####; end `answer` with it")
    return Problem(_id(row, line), _text(row, "question"), number)


def _frames(row: Row, line: int) -> Problem:
    return Problem(_id(row, line), _text(row, "question"), _text(row, "answer"))


def _hle(row: Row, line: int) -> Problem | None:
    """Reads text-only rows; rows with images are skipped."""
    if row.get("image"):
        return None
    return Problem(_text(row, "id"), _text(row, "question"), _text(row, "answer"))


def _math(row: Row, line: int) -> Problem:
    """Reads {problem, solution, level, subject}; the answer is in the solution's last box."""
    if row.get("answer") is not None:
        answer = _text(row, "answer")
    else:
        answer = find_marked(Parser.BOXED, _text(row, "solution")) or ""
        if not answer:
            raise BadRow("no \\boxed{} in `solution`; box the answer, or give `answer`")
    subject = row.get("subject") or row.get("type")
    family = re.sub(r"\W+", "_", str(subject).lower()).strip("_") if subject else None
    return Problem(_id(row, line, "unique_id"), _text(row, "problem"), answer, family=family)


def _hotpotqa(row: Row, line: int) -> Problem:
    """Reads the question without its passages, which a search tool has to find."""
    kind = row.get("type")
    family = f"hotpotqa_{kind}" if isinstance(kind, str) and kind else None
    identity = _id(row, line, "_id")
    return Problem(identity, _text(row, "question"), _text(row, "answer"), family=family)


FORMATS: Mapping[str, Format] = {
    "jsonl": Format(_plain, "exact"),
    "gsm8k": Format(_gsm8k, "number"),
    "frames": Format(_frames, "frames"),
    "hle": Format(_hle, "hle"),
    "math": Format(_math, "math"),
    "hotpotqa": Format(_hotpotqa, "hotpotqa"),
}


def _text(row: Row, key: str) -> str:
    value = row.get(key)
    if value is None:
        near = difflib.get_close_matches(key, list(row), n=1)
        hint = f"rename `{near[0]}`?" if near else "give it"
        raise BadRow(f"no `{key}`; {hint}")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRow(f"`{key}` is a {type(value).__name__}; write text or a number")
    if not (text := str(value).strip()):
        raise BadRow(f"`{key}` is empty; fill it")
    return text


def _id(row: Row, line: int, key: str = "id") -> str:
    """Returns the row's id, else its line number."""
    name = key if row.get(key) is not None else "id"
    return _text(row, name) if row.get(name) is not None else str(line)


def _refuse_near_misses(row: Row, optional: tuple[str, ...]) -> None:
    """Rejects misspelt optional keys, which would otherwise be ignored silently."""
    for key in row:
        near = difflib.get_close_matches(key, optional, n=1, cutoff=0.8)
        if near and key not in optional:
            raise BadRow(f"`{key}` is not a key of a task; did you mean `{near[0]}`?")


def _judge(row: Row) -> str | None:
    judge = row.get("judge")
    if judge is not None and judge not in get_args(JudgeName):
        raise BadRow(f"`judge` is unknown; choose from {', '.join(get_args(JudgeName))}")
    return judge


def _tests(row: Row) -> str:
    """Returns the tests as Python, from one text or a list of texts."""
    tests: Any = row.get("tests") or ""
    pieces = [tests] if isinstance(tests, str) else tests
    if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
        raise BadRow("`tests` is no Python; write text, or a list of texts")
    return "\n".join(pieces).strip()


def _choices(row: Row) -> tuple[str, ...]:
    choices = row.get("choices")
    if choices is None:
        return ()
    texts = isinstance(choices, list) and all(isinstance(c, str) and c.strip() for c in choices)
    if not texts or not 2 <= len(choices) <= len(LETTERS):
        raise BadRow(f"`choices` is not a list of 2 to {len(LETTERS)} texts; make it one")
    return tuple(choice.strip() for choice in choices)


def _check_choice(answer: str, choices: tuple[str, ...]) -> None:
    lettered = len(answer) == 1 and answer.upper() in LETTERS[: len(choices)]
    if not lettered and answer not in choices:
        raise BadRow("`answer` is not a choice; give a choice's letter or its text")
