"""What a family's scorer says of an answer, and what becomes of an answer that it cannot score.

A family's own scorer gives a number in [0, 1]; only a full score counts as right. A scorer that
raises, or gives anything else, could not score the answer. If it scores the reference, the answer
is at fault: it is wrong, alone, and counted. If it does not score even the reference, the task is
at fault, and there is no verdict (`BrokenTask`).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

MOST_CHARACTERS = 65_536  # of an answer; what is longer is wrong
_NAN = re.compile(r"(?<![a-z])s?nan\d*[ij]?(?![a-z])", re.IGNORECASE)  # as Decimal or complex too
_SPACE = re.compile(r"\s+")  # some scorers take it out

Scorer = Callable[[str, Any], Any]


class BrokenTask(Exception):
    """The scorer of a task does not score even its reference; the text says what happened."""


@dataclass(frozen=True, slots=True)
class Scored:
    """`fault` says why the answer could not be scored; None: it could. With a fault it is wrong."""

    correct: bool
    fault: str | None = None


def score_of(given: object) -> float | None:
    """A scorer's result as a float; None if it is not a number in [0, 1]."""
    if isinstance(given, str | bytes):
        return None
    try:
        score = float(given)  # type: ignore[arg-type]
    except Exception:  # a scorer may return anything
        return None
    return score if 0.0 <= score <= 1.0 else None  # false for nan


def refused(answer: str, reference: str) -> str | None:
    """Why an answer is wrong whatever its scorer says; None: it is to be scored.

    "nan" differs from no number in a comparison by tolerance: some scorers take it for right.
    """
    if len(answer) > MOST_CHARACTERS:
        return f"longer than {MOST_CHARACTERS} characters"
    numeric = any(character.isdecimal() for character in reference)
    forms = (answer, _SPACE.sub("", answer))
    if numeric and any(map(_NAN.search, forms)) and not _NAN.search(reference):
        return "not a number"
    return None


def scored(scorer: Scorer, answer: str, entry: Any, reference: str) -> Scored:
    """Runs `scorer` in this process; `BrokenTask` if it cannot score the reference either."""
    if (why := refused(answer, reference)) is not None:
        return Scored(False, why)
    score, fault = attempt(scorer, answer, entry)
    if fault is None:
        return Scored(score >= 1.0)
    _, broken = attempt(scorer, reference, entry)
    if broken is not None:
        raise BrokenTask(f"its reference cannot be scored: {broken}")
    return Scored(False, fault)


def attempt(scorer: Scorer, answer: str, entry: Any) -> tuple[float, str | None]:
    """The score, and why there is none."""
    try:
        given = scorer(answer, entry)
    except Exception as error:  # a scorer of any family may raise anything on any answer
        return 0.0, f"the scorer raised {type(error).__name__}"
    score = score_of(given)
    return (0.0, "no score between 0 and 1") if score is None else (score, None)
