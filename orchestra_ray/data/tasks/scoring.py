"""Scores answers with a family's own scorer, and handles answers that it cannot score.

A scorer returns a number in [0, 1]; only a full score counts as correct. A scorer that raises, or
returns anything else, could not score the answer. If it can score the reference, the answer is at
fault: it counts as wrong. If not, the task is at fault, and there is no verdict (`BrokenTask`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_CHARACTERS = 65_536  # of an answer; longer answers are wrong
_NAN = re.compile(r"(?<![a-z])s?nan\d*[ij]?(?![a-z])", re.IGNORECASE)  # as Decimal or complex too
_SPACE = re.compile(r"\s+")  # some scorers remove it

Scorer = Callable[[str, Any], Any]


class BrokenTask(Exception):
    """Raised if a task's scorer cannot score even the reference; the text says why."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A verdict. `fault`: why the answer could not be scored, and so is wrong; else None."""

    correct: bool
    fault: str | None = None


def score_of(given: object) -> float | None:
    """Returns a scorer's result as a float; None if it is not a number in [0, 1]."""
    if isinstance(given, str | bytes):
        return None
    try:
        score = float(given)  # type: ignore[arg-type]
    except Exception:  # a scorer may return anything
        return None
    return score if 0.0 <= score <= 1.0 else None  # false for nan


def rejection_reason(answer: str, reference: str) -> str | None:
    """Returns why an answer is wrong without scoring it; None if it must be scored.

    "nan" passes every comparison by tolerance, so some scorers accept it.
    """
    if len(answer) > MOST_CHARACTERS:
        return f"longer than {MOST_CHARACTERS} characters"
    numeric = any(character.isdecimal() for character in reference)
    forms = (answer, _SPACE.sub("", answer))
    if numeric and any(map(_NAN.search, forms)) and not _NAN.search(reference):
        return "not a number"
    return None


def score_answer(scorer: Scorer, answer: str, entry: Any, reference: str) -> Scored:
    """Runs `scorer` in this process; raises `BrokenTask` if it cannot score the reference."""
    if (why := rejection_reason(answer, reference)) is not None:
        return Scored(False, why)
    score, fault = attempt(scorer, answer, entry)
    if fault is None:
        return Scored(score >= 1.0)
    _, broken = attempt(scorer, reference, entry)
    if broken is not None:
        raise BrokenTask(f"its reference cannot be scored: {broken}")
    return Scored(False, fault)


def attempt(scorer: Scorer, answer: str, entry: Any) -> tuple[float, str | None]:
    """Returns the score, and None or the reason why it is missing."""
    try:
        given = scorer(answer, entry)
    except Exception as error:  # a scorer may raise anything
        return 0.0, f"the scorer raised {type(error).__name__}"
    score = score_of(given)
    return (0.0, "no score between 0 and 1") if score is None else (score, None)
