"""Choice: the right letter, in any form: `B`, `(b)`, `B. Paris`, "the answer is B", "Paris".

An answer that names two letters in one breath ("A or C") names none. Of several statements the last
one counts.
"""

import re
import string
from collections.abc import Sequence

from orchestra_ray.catalogue.parsers import Parser, parse
from orchestra_ray.reward.judges.exact import normal

_LETTER = r"[(\[]?([A-Za-z])[)\]]?"
_ALONE = re.compile(rf"{_LETTER}\s*[.:,]?")
_LEADING = re.compile(r"(?:\(([A-Za-z])\)|\[([A-Za-z])\]|([A-Z])\s*[.:)])(?:\s|$)")
_STATED = re.compile(
    r"(?i:\b(?:answer|option|choice)(?:\s+(?:is|would\s+be|must\s+be|should\s+be))?\s*[:=]?\s*"
    r"(?:option\s+|choice\s+)?)"
    r"(?:\(([A-Za-z])\)|\[([A-Za-z])\]|([A-Z])(?![\w'’])|([a-z])(?=[.,;:)]?\s*$))"
)
_IN_BRACKETS = re.compile(r"[(\[]([A-Z])[)\]]")
_AND_ANOTHER = re.compile(r"\s*(?:,|/|&|\bor\b|\band\b)\s*[(\[]?[A-HJ-Z](?![\w'’])")
_TEXT = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")


def is_choice(reference: str, answer: str, choices: Sequence[str] = ()) -> bool:
    """Without the texts of the choices, only letters are understood."""
    right = letter_of(reference, choices)
    return right is not None and letter_of(answer, choices) == right


def letter_of(text: str, choices: Sequence[str] = ()) -> str | None:
    """The letter, in capitals, that an answer comes to; None where it names none, or several."""
    boxed = _TEXT.sub(r"\1", parse(Parser.BOXED, text))
    plain = " ".join(re.sub(r"[*`_]", "", boxed).split())  # patterns take long over long gaps
    letter = _by_text(plain, choices) or _by_letter(plain)
    known = string.ascii_uppercase[: len(choices) or None]
    return letter if letter and letter in known else None


def _by_text(plain: str, choices: Sequence[str]) -> str | None:
    said = normal(plain).rstrip(".")
    alike = [i for i, choice in enumerate(choices) if normal(choice).rstrip(".") == said]
    return string.ascii_uppercase[alike[0]] if len(alike) == 1 else None


def _by_letter(plain: str) -> str | None:
    if alone := _ALONE.fullmatch(plain):
        return alone[1].upper()
    if stated := list(_STATED.finditer(plain)):
        return _named(stated[-1], plain)
    if leading := _LEADING.match(plain):
        return _named(leading, plain)
    bracketed = set(_IN_BRACKETS.findall(plain))
    return bracketed.pop() if len(bracketed) == 1 else None


def _named(match: re.Match[str], plain: str) -> str | None:
    if _AND_ANOTHER.match(plain, match.end()):
        return None
    return next(group for group in match.groups() if group).upper()
