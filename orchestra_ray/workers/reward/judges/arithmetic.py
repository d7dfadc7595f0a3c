r"""Exact and bounded evaluation of arithmetic over tokens.

    sum      := product (("+" | "-") product)*
    product  := power (("*" | "/") power)*             also x, ×, \\times, \\cdot, ÷, \\div
    power    := ["-" | "+"] atom ["!"] ["^" power]
    atom     := decimal | mixed number | currency atom | \\frac a b | \\sqrt atom | "(" sum ")"

Expressions without a rational value raise `Opaque`. Work is bounded by the digits of a number, the
size of a power and the depth of brackets.
"""

import math
import re
from collections.abc import Sequence
from fractions import Fraction

from orchestra_ray.workers.reward.judges.tokens import Token
from orchestra_ray.workers.reward.judges.units import CURRENCIES

MOST_DIGITS, MOST_BITS, MOST_FACTORIAL, MOST_DEPTH = 300, 20_000, 1_000, 40
_TIMES = {"*", "×", "·", "x", "X", "\\times", "\\cdot", "\\ast"}
_OVER = {"/", "÷", "\\div", "\\over"}


class Opaque(Exception):
    """The expression has no rational value."""


class Arithmetic:
    """A recursive-descent parser over tokens; `place` is the index of the next one."""

    def __init__(self, tokens: Sequence[Token]):
        self.tokens, self.place, self._depth = tokens, 0, 0

    def _peek(self, ahead: int = 0) -> Token:
        place = self.place + ahead
        return self.tokens[place] if place < len(self.tokens) else Token("end", "", True)

    def _take(self) -> Token:
        token = self._peek()
        self.place += 1
        return token

    def _sum(self) -> Fraction:
        value = self._product()
        while self._peek().text in ("+", "-") and self._operand_follows():
            sign = self._take().text
            term = self._product()
            value = _bounded(value + term if sign == "+" else value - term)
        return value

    def _operand_follows(self) -> bool:
        """Returns whether a number follows the operator, which is otherwise a dash or a mark."""
        after = self._peek(1)
        if after.text in CURRENCIES or after.text in {"-", "+", "(", "{", "\\left"}:
            is_group, after = after.text in {"(", "{"}, self._peek(2)
            if is_group and after.text in {"-", "+"}:
                after = self._peek(3)
        return after.kind in ("number", "opaque") or after.text in ("\\frac", "\\sqrt", "(")

    def _product(self) -> Fraction:
        value = self._power()
        while True:
            token = self._peek()
            if token.text in _TIMES and self._operand_follows():
                self._take()
                value = _bounded(value * self._power())
            elif token.text in _OVER and self._operand_follows():
                self._take()
                value = _bounded(_divided(value, self._power()))
            elif token.text in ("\\sqrt", "(") and not token.spaced and self.place:
                value = _bounded(value * self._power())
            else:
                return value

    def _power(self) -> Fraction:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise Opaque
        try:
            return self._signed_power()
        finally:
            self._depth -= 1

    def _signed_power(self) -> Fraction:
        if self._peek().text in ("-", "+"):
            sign = self._take().text
            value = self._power()
            return -value if sign == "-" else value
        value = self._primary()
        while self._peek().text == "!" and not self._peek().spaced:
            self._take()
            value = _factorial(value)
        if self._peek().text in ("^", "**") and self._operand_follows():
            self._take()
            return _raised(value, self._power())
        return value

    def _primary(self) -> Fraction:
        token = self._take()
        if token.text in CURRENCIES and token.text:
            self._currency = token.text
            return self._power()
        if token.kind == "number":
            return self._mixed(_decimal(token.text))
        if token.text == "\\frac":
            above = self._argument()
            return _divided(above, self._argument())
        if token.text == "\\sqrt" and self._peek().text != "[":
            return _root(self._argument())
        if token.text in ("(", "{"):
            value = self._sum()
            if self._take().text != {"(": ")", "{": "}"}[token.text]:
                raise Opaque
            return value
        raise Opaque

    def _argument(self) -> Fraction:
        """Reads the argument of a LaTeX command: a group in braces or brackets, or one digit."""
        token = self._peek()
        if token.kind == "number" and token.text.isdigit() and len(token.text) > 1:
            first, rest = token.text[0], token.text[1:]
            self.tokens = [
                *self.tokens[: self.place], Token("number", first, False),
                Token("number", rest, False), *self.tokens[self.place + 1 :],
            ]  # fmt: skip
        if self._peek().kind == "number":
            return _decimal(self._take().text)
        return self._power() if self._peek().text not in ("{", "(") else self._primary()

    def _mixed(self, whole_part: Fraction) -> Fraction:
        """Reads the rest of a mixed number: `1 1/2`, `1\\frac{1}{2}`."""
        after = self._peek()
        if after.text == "\\frac":
            return whole_part + self._primary()
        if after.kind != "number":
            return whole_part
        if not after.spaced or self._peek(1).text != "/" or self._peek(2).kind != "number":
            raise Opaque  # two numbers in a row
        above = _decimal(self._take().text)
        self._take()
        return whole_part + _divided(above, _decimal(self._take().text))


def _decimal(text: str) -> Fraction:
    if len(text) > MOST_DIGITS:
        raise Opaque
    plain_text = re.sub(r"[,'_]", "", text)
    mantissa, _, exponent = plain_text.lower().partition("e")
    value = Fraction(mantissa)
    return value * _raised(Fraction(10), Fraction(int(exponent))) if exponent else value


def _divided(above: Fraction, below: Fraction) -> Fraction:
    if not below:
        raise Opaque
    return above / below


def _raised(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator == 2 and base >= 0:
        return _raised(_root(base), Fraction(exponent.numerator))
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator != 1 or bits * abs(exponent) > MOST_BITS or not (base or exponent > 0):
        raise Opaque
    return base ** int(exponent)


def _root(value: Fraction) -> Fraction:
    if value < 0:
        raise Opaque
    above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if above * above != value.numerator or below * below != value.denominator:
        raise Opaque
    return Fraction(above, below)


def _factorial(value: Fraction) -> Fraction:
    if value.denominator != 1 or not 0 <= value <= MOST_FACTORIAL:
        raise Opaque
    return Fraction(math.factorial(int(value)))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MOST_BITS:
        raise Opaque
    return value
