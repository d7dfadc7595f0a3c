"""Equality of two mathematical expressions, by math-verify; runs in a separate process.

math-verify bounds its work by alarms, which require the main thread of a process and cannot
interrupt an operation on an integer of a billion digits. `mathematics` therefore runs this in a
process with a memory limit and kills it after a deadline.

Both texts are parsed as a whole (`latex`, then the grammar of latex2sympy), not searched for an
expression. Numbers in exact form are compared exactly; if one is a decimal, up to rounding, as by
the grader `number`. Sets, tuples and intervals are compared by element.

The process is not sandboxed. Invariant, held by a test: no text of an answer is evaluated. LaTeX
is parsed by a grammar into sympy's constructors; sympy's own parser, which evaluates, receives
numerals only.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import NormalizationConfig, latex2sympy, normalize_latex
from latex2sympy2_extended.sets import FiniteSet
from math_verify import verify
from math_verify.errors import TimeoutException
from math_verify.grader import should_treat_as_complex
from math_verify.utils import timeout
from sympy import Eq
from sympy.core.function import AppliedUndef

from orchestra_ray.workers.reward.judges.latex import latex
from orchestra_ray.workers.reward.judges.number import near
from orchestra_ray.workers.reward.judges.words import worded

PARSE_S, VERIFY_S = 2, 3
logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns about `verify` without an alarm
MOST_ELEMENTS = 200
_DIGITS = 60  # precision for exact forms that no simplification decides
_PERCENT = re.compile(r"\s*(?:\\?%|\\text\s*\{\s*(?:percent|per cent)\s*\}|per ?cent)\s*\$?\s*\.?$")
_EQUALS = re.compile(r"(?<![\\<>!:])=")
_LETTER = re.compile(r"[A-Za-z]")
_ORDERED: Any = (sympy.Tuple, sympy.MatrixBase)
_NORMALIZED = NormalizationConfig(
    basic_latex=True,
    units=False,
    malformed_operators=True,
    nits=False,
    boxed="none",
    equations=False,
)


@dataclass(frozen=True, slots=True)
class Parsed:
    value: Any  # of sympy
    percent: bool


def equal(reference: str, answer: str) -> str:
    """Returns "equal" or "different"."""
    right, given = _parsed(reference), _parsed(answer)
    if right is None or given is None:
        return "different"
    return "equal" if _bounded(_equal, VERIFY_S, right, given) else "different"


def _parsed(text: str) -> Parsed | None:
    """Returns None if the text as a whole is not an expression."""
    if (words := worded(text)) is not None and words.unit is None:
        return Parsed(sympy.Rational(words.value.numerator, words.value.denominator), words.percent)
    bare = _PERCENT.sub("", text)
    expression = latex(bare)
    value = None if expression is None else _bounded(_read, PARSE_S, expression)
    return None if value is None else Parsed(value, bare != text)


def _bounded(function: Callable[..., Any], seconds: int, *arguments: Any) -> Any:
    try:
        return timeout(timeout_seconds=seconds)(function)(*arguments)
    except (Exception, TimeoutException):  # of the grammar, of sympy or of the alarm
        return None


def _read(expression: str) -> Any:
    """Parses an expression; of a chain of equations, as `x = 2 + 3 = 5`, the last member."""
    text = normalize_latex(expression, _NORMALIZED)
    members = _EQUALS.split(text)
    if len(members) > 2 and "," not in text:
        text = members[-1]
    elif len(members) == 2 and not _LETTER.search(members[0]):
        text = members[-1]
    if not text.strip():
        return None
    is_real = not should_treat_as_complex(text)
    value: Any = latex2sympy(
        text, is_real=is_real, convert_degrees=False, normalization_config=None
    )
    return None if value.has(sympy.zoo, sympy.nan) else value


def _equal(right: Parsed, given: Parsed) -> bool:
    if _same(right.value, given.value):
        return True
    factor = {(True, False): sympy.Rational(1, 100), (False, True): sympy.Integer(100)}
    hundred = factor.get((right.percent, given.percent))
    return (
        hundred is not None
        and _is_number(right.value)
        and _same(right.value * hundred, given.value)
    )


def _same(right: Any, given: Any) -> bool:
    if isinstance(right, Eq) and isinstance(given, Eq) and right.lhs == given.lhs:
        return _same(right.rhs, given.rhs)
    if not (isinstance(right, Eq) and isinstance(given, Eq)):
        right, given = _assigned(right), _assigned(given)
    if _is_number(right) and _is_number(given):
        return _same_number(right, given)
    if isinstance(right, FiniteSet) and isinstance(given, FiniteSet):
        return _same_elements(list(right.args), list(given.args))
    for one, other in ((right, given), (given, right)):
        if isinstance(one, FiniteSet) and isinstance(other, sympy.Interval | sympy.Tuple):
            return False  # a list is neither a pair nor an interval
    if isinstance(right, sympy.Interval) and isinstance(given, sympy.Interval):
        ends = [(right.start, given.start), (right.end, given.end)]
        is_open = (right.left_open, right.right_open) == (given.left_open, given.right_open)
        return bool(is_open) and all(_same(one, other) for one, other in ends)
    if isinstance(right, _ORDERED) and isinstance(given, _ORDERED):
        return _shape(right) == _shape(given) and all(map(_same, _members(right), _members(given)))
    return verify([right], [given], allow_set_relation_comp=True, timeout_seconds=None)


def _assigned(value: Any) -> Any:
    """Returns the value assigned by an equation: 5 for `x = 5`, both for `x = 5, x = 6`."""
    if isinstance(value, Eq) and not value.rhs.has(value.lhs) and _is_name(value.lhs):
        return value.rhs
    if isinstance(value, FiniteSet) and value.args and all(isinstance(e, Eq) for e in value.args):
        equations: list[Any] = list(value.args)
        names = {one.lhs for one in equations}
        if len(names) == 1 and all(map(_is_name, names)):
            return FiniteSet(*(one.rhs for one in equations))
    return value


def _is_name(value: Any) -> bool:
    return isinstance(value, sympy.Symbol | AppliedUndef) or (
        isinstance(value, sympy.Tuple) and all(map(_is_name, value))
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, sympy.Expr) and not value.free_symbols and not value.has(AppliedUndef)


def _same_number(right: Any, given: Any) -> bool:
    is_decimal = bool(right.has(sympy.Float) or given.has(sympy.Float))
    right, given = right.doit(), given.doit()
    one, other = _fraction(right), _fraction(given)
    if one is not None and other is not None:
        return near(one, other) if is_decimal else one == other
    if right.is_infinite or given.is_infinite:
        return bool(right == given)
    apart = abs(sympy.N(right - given, _DIGITS))
    size = abs(sympy.N(right, _DIGITS))
    if is_decimal:
        return bool(apart <= size * sympy.Rational(1, 10**6))
    return (
        bool(apart <= size * sympy.Rational(1, 10 ** (_DIGITS // 2)))
        if size
        else bool(apart < sympy.Rational(1, 10 ** (_DIGITS // 2)))
    )


def _fraction(value: Any) -> Fraction | None:
    if value.is_Rational:
        return Fraction(int(value.p), int(value.q))
    return Fraction(str(value)) if value.is_Float else None


def _same_elements(right: list[Any], given: list[Any]) -> bool:
    if len(right) != len(given) or len(right) > MOST_ELEMENTS:
        return False
    for one in right:
        match = next((i for i, other in enumerate(given) if _same(one, other)), None)
        if match is None:
            return False
        given.pop(match)
    return True


def _members(value: Any) -> list[Any]:
    return list(value)


def _shape(value: Any) -> Any:
    return value.shape if isinstance(value, sympy.MatrixBase) else len(value)
