r"""Amounts in text: an exact number with its percent sign and its unit, or none at all.

    amount   := [about] sum [scale] [percent] [unit]
    sum      := product (("+" | "-") product)*
    product  := power (("*" | "/") power)*             x, ×, \times, \cdot, ÷ and \div too
    power    := ["-" | "+"] atom ["!"] ["^" power]
    atom     := decimal | mixed number | currency atom | \frac a b | \sqrt atom | "(" sum ")"

An expression is computed exactly as a whole. If a part of it has no rational value that is written
here in full (a variable, \pi, \sqrt{2}, H12, 12:00, 3,14), then the whole has none: a term is never
taken for the expression that it stands in. Work is bounded: by the digits of a number, the size of
a power and the depth of brackets.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from orchestra_ray.reward.judges.units import CURRENCIES, UNITS, Unit, unit_of

MOST_DIGITS, MOST_BITS, MOST_FACTORIAL, MOST_DEPTH = 300, 20_000, 1_000, 40

_DECIMAL = (
    r"(?:\d{1,3}(?:,\d{3})+(?!\d|,\d)|\d{1,3}(?:'\d{3})+(?!\d)|\d{1,3}(?:_\d{3})+(?!\d)"
    r"|\d{1,2}(?:,\d{2})+,\d{3}(?!\d|,\d)|\d+(?!\d|,\d))(?:\.\d+)?(?:[eE][-+]?\d{1,6}(?![\w.]))?"
    r"|\.\d+(?:[eE][-+]?\d{1,6}(?![\w.]))?"
)
_TOKEN = re.compile(
    rf"""
    (?P<space>\s+)
    | (?P<opaque>\d+(?::\d+)+ | \d{{4}}-\d\d?-\d\d?(?!\d) | \d\d?/\d\d?/\d{{4}}(?!\d)
        | \d+\.\d+(?:\.\d+)+ | \d+(?:\.\d+)?(?:\.\.\.|…))
    | (?P<number>{_DECIMAL})
    | (?P<command>\\[A-Za-z]+)
    | (?P<word>[^\W\d_]+(?:['’-][^\W\d_]+)*)
    | (?P<operator>\*\*|[-+*/^!×÷·(){{}}\[\]=])
    | (?P<sign>[%$€£°¢])
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_WRAPPER = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox)\s*\{([^{}]*)\}")
_DELIMITED = re.compile(r"\$\$|\\[()\[\]]|\$(?=[^$\n]{1,300}(?<!\s)\$(?!\d))([^$\n]{1,300})\$")
_DROPPED = re.compile(
    r"\\(?:left|right|displaystyle|dfrac(?![a-z])|tfrac(?![a-z])|!)|`|\*\*(?=\W|$)|(?<!\w)\*\*"
)
_GAP = re.compile(r"\\[,;: ]|~|\\quad\b")
_SPACED = re.compile(r"(?<![\d.,/])\d{1,3}(?: \d{3})+(?![\d/])")
_VULGAR = re.compile(r"(?<=\d)(?=[\u00bc-\u00be\u2150-\u215e])")
_RAISED = re.compile(r"[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207a\u207b]+")
_SIGNS = str.maketrans("−–—⁄’", "---/'")
_SCALES = {
    **{"hundred": 10**2, "dozen": 12, "thousand": 10**3, "million": 10**6, "billion": 10**9},
    **{"trillion": 10**12},
}
_SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "bn": 10**9}
_OF_MONEY = {"m": 10**6, "b": 10**9, "mn": 10**6, "T": 10**12}
_TIMES = {"*", "×", "·", "x", "X", "\\times", "\\cdot", "\\ast"}
_OVER = {"/", "÷", "\\div", "\\over"}
_VARIABLES = re.compile(r"[a-zA-Z\u0370-\u03ff]")
_FUNCTIONS = {"sin", "cos", "tan", "log", "ln", "exp", "sqrt", "pi", "choose", "mod", "infinity"}
_LETTERS = {"m", "g", "s", "h", "l", "L", "V", "W", "N", "J", "C", "F", "a", "I", "A"}
_ABOUT = {"about", "approximately", "roughly", "around", "≈", "~", "\\approx", "only", "exactly"}
# What may not follow a number that is to be the whole of an amount.
_NO_UNIT = {
    *("or", "and", "to", "more", "less", "fewer", "least", "most", "than", "not", "but", "if"),
    *("through", "until", "between", "over", "plus", "minus", "times", "times.", "squared"),
    *("cubed", "halves", "thirds", "quarters", "fourths", "fifths", "digits", "factorial"),
}


@dataclass(frozen=True, slots=True)
class Amount:
    """`unit` is one that is known; None where there is none."""

    value: Fraction
    percent: bool = False
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    spaced: bool  # whether a gap stands before it
    start: int = 0  # in the text

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Found:
    """An amount in prose, or None in its place, and where it begins and ends."""

    amount: Amount | None
    start: int
    end: int


class _Opaque(Exception):
    """What is being read has no rational value."""


def plain(text: str) -> str:
    """`text` without the marks of LaTeX and Markdown, in the characters that are understood."""
    text = _RAISED.sub(lambda raised: f"^{raised[0]}", _VULGAR.sub(" ", text))
    text = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    text = text.replace("\\$", "$ " if text.rstrip().endswith("\\$") else "$")
    text = text.replace("\\%", "%").replace("{,}", ",").replace("^\\circ", "°")
    text = text.replace("^{\\circ}", "°")
    text = _WRAPPER.sub(r" \1 ", text)
    text = _DELIMITED.sub(lambda inner: f" {inner[1] or ''} ", text)
    text = _DROPPED.sub(lambda one: "\\frac" if "frac" in one[0] else "", text)
    text = _GAP.sub(" ", text)
    text = re.sub(r"[^\S\n]+", " ", text)
    return _SPACED.sub(lambda spaced: spaced[0].replace(" ", ""), text)


def tokens_of(text: str) -> list[Token]:
    found, spaced = [], True
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        if kind != "space":
            found.append(Token(kind, match[0], spaced, match.start()))
        spaced = kind == "space"
    return found


def whole(text: str) -> Amount | None:
    """The amount that a text, already `plain`, consists of; None if it is anything else."""
    tokens = tokens_of(text)
    while tokens and tokens[-1].text in {".", ",", ";", "$", "!"} and len(tokens) > 1:
        if tokens[-1].text == "!" and not tokens[-1].spaced and tokens[-2].kind == "number":
            break
        tokens.pop()
    while tokens and (tokens[0].text.lower() in _ABOUT or tokens[0].text in {":", "="}):
        tokens.pop(0)
    reader = _Reader(tokens)
    try:
        amount = reader.amount(0)
    except _Opaque:
        return None
    rest = tokens[reader.place :]
    if rest and (rest[0].text not in {"(", ","} or not rest[0].spaced and rest[0].text == "("):
        return None if not _is_noun(rest) else amount
    # Only a remark in brackets may follow: one comma more makes a list.
    return amount if not rest or (rest[0].text == "(" and rest[-1].text == ")") else None


def found_in(text: str) -> Iterator[Found]:
    """Every amount of prose that is already `plain`, and None for what is written like one."""
    tokens, place = tokens_of(text), 0
    while place < len(tokens):
        if not _begins(tokens, place):
            place += 1
            continue
        reader, start = _Reader(tokens), place
        try:
            if _is_term(tokens, place):
                raise _Opaque
            amount = reader.amount(place)
        except _Opaque:
            amount = None
        place = max(reader.place, place + 1)
        yield Found(amount, tokens[start].start, tokens[min(place, len(tokens)) - 1].end)


def _is_noun(rest: Sequence[Token]) -> bool:
    """Whether words behind a number name what is counted, and change nothing in the number."""
    if len(rest) > 8 or any(t.kind not in ("word", "operator", "other") for t in rest):
        return False
    words = [t.text.lower() for t in rest]
    if rest[0].kind != "word" or any(word in _NO_UNIT or word in _FUNCTIONS for word in words):
        return False
    if any(t.kind == "operator" and t.text not in {"/", "(", ")"} for t in rest):
        return False
    return not any(t.text in {",", ";", "=", "<", ">"} for t in rest)


def _begins(tokens: Sequence[Token], place: int) -> bool:
    """Whether an amount may begin there."""
    token = tokens[place]
    if token.kind in ("number", "opaque"):
        return True
    if token.kind == "command":
        return token.text in ("\\frac", "\\sqrt", "\\binom", "\\log", "\\ln", "\\pi")
    after = tokens[place + 1] if place + 1 < len(tokens) else None
    if token.text in CURRENCIES or token.text in "+-":
        joined = after is not None and (not after.spaced or token.text in CURRENCIES)
        return joined and (
            (after.kind == "number" or after.text in ("\\frac", "\\sqrt"))
            or (after.text in CURRENCIES + "-" and after.text != token.text
                and place + 2 < len(tokens) and tokens[place + 2].kind == "number")
        )
    if token.text == "(" and after is not None:
        return after.kind == "number" and _closes(tokens, place)
    return False


def _closes(tokens: Sequence[Token], place: int) -> bool:
    """Whether a bracket holds an expression that goes on behind it, as in `(2+3)*4`."""
    for i in range(place + 1, min(place + 20, len(tokens) - 1)):
        if tokens[i].text == ")":
            return tokens[i + 1].text in {"*", "/", "^", "×", "+", "="}
        if tokens[i].kind not in ("number", "operator"):
            return False
    return False


def _is_term(tokens: Sequence[Token], place: int) -> bool:
    """Whether what stands before makes this a part of something that is not read."""
    if place == 0:
        return False
    here, before = tokens[place], tokens[place - 1]
    if not here.spaced and before.kind in ("word", "command") and before.text.isascii():
        return True
    if not here.spaced and before.text in {"_", "√", "π", "{", "}", ")", "]"}:
        return True
    if before.kind == "command" and before.text not in ("\\approx", "\\implies", "\\therefore"):
        return True
    if before.text in {"+", "*", "/", "^", "×", "·", "÷", "**"}:
        return not (before.text in {"*", "**"} and here.spaced != before.spaced)
    # `x - 5`, where a value stands before the minus; a dash in prose has none.
    if before.text == "-" and place > 1:
        return tokens[place - 2].kind in ("number", "opaque") or _is_variable(tokens[place - 2])
    return False


def _is_variable(token: Token) -> bool:
    return token.kind == "word" and bool(_VARIABLES.fullmatch(token.text)) and token.text not in (
        "a", "I", "A"
    )


class _Reader:
    """A recursive descent over tokens; `place` is the next one."""

    def __init__(self, tokens: Sequence[Token]):
        self.tokens, self.place, self._depth = tokens, 0, 0

    def amount(self, place: int) -> Amount:
        self.place = place
        self._currency: str | None = None
        value = self._sum()
        value *= self._scale()
        percent = self._percent()
        unit = self._unit()
        self._refuse_more()
        return Amount(value, percent, unit)

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
        """Whether an operator has a number behind it, and is none of a dash or a mark."""
        after = self._peek(1)
        if after.text in CURRENCIES or after.text in {"-", "+", "(", "{", "\\left"}:
            after = self._peek(2)
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
        if self._peek().text in ("-", "+"):
            sign = self._take().text
            value = self._power()
            return -value if sign == "-" else value
        value = self._atom()
        while self._peek().text == "!" and not self._peek().spaced:
            self._take()
            value = _factorial(value)
        if self._peek().text in ("^", "**") and self._operand_follows():
            self._take()
            return _raised(value, self._power())
        return value

    def _atom(self) -> Fraction:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise _Opaque
        try:
            return self._primary()
        finally:
            self._depth -= 1

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
                raise _Opaque
            return value
        raise _Opaque

    def _argument(self) -> Fraction:
        """Of a LaTeX command: a group in braces or brackets, or one digit."""
        token = self._peek()
        if token.kind == "number" and token.text.isdigit() and len(token.text) > 1:
            first, rest = token.text[0], token.text[1:]
            self.tokens = [
                *self.tokens[: self.place], Token("number", first, False),
                Token("number", rest, False), *self.tokens[self.place + 1 :],
            ]  # fmt: skip
        if self._peek().kind == "number":
            return _decimal(self._take().text)
        return self._atom()

    def _mixed(self, whole_part: Fraction) -> Fraction:
        """`1 1/2` and `1\\frac{1}{2}`."""
        after = self._peek()
        if after.text == "\\frac":
            return whole_part + self._primary()
        if after.kind != "number":
            return whole_part
        if not after.spaced or self._peek(1).text != "/" or self._peek(2).kind != "number":
            raise _Opaque  # two numbers in a row
        above = _decimal(self._take().text)
        self._take()
        return whole_part + _divided(above, _decimal(self._take().text))

    def _scale(self) -> int:
        token, scale = self._peek(), 1
        if token.text.lower() in _SCALES:
            scale = _SCALES[token.text.lower()]
        elif token.text in _SUFFIXES and (not token.spaced or self._currency):
            scale = _SUFFIXES[token.text]
        elif token.text in _OF_MONEY and self._currency and not token.spaced:
            scale = _OF_MONEY[token.text]
        elif token.text.lower() in ("st", "nd", "rd", "th") and not token.spaced:
            self.place += 1
            return 1
        if scale != 1:
            self.place += 1
            return scale * self._scale()
        return 1

    def _percent(self) -> bool:
        token, after = self._peek(), self._peek(1)
        if token.text.lower() == "per" and after.text.lower() == "cent":
            self.place += 2
            return True
        if token.text == "%" or token.text.lower() in ("percent", "pct"):
            self.place += 1
            return True
        return False

    def _unit(self) -> Unit | None:
        words: list[str] = []
        start = self.place
        while len(words) < 8:
            token = self._peek()
            is_part = token.text in UNITS or token.text.lower() in UNITS
            if is_part and not (_is_article(token) and self._peek(1).kind == "word"):
                words.append(token.text)
            elif token.text.lower() in ("square", "sq", "cubic", "cu"):
                words.append(token.text)
            elif token.text in ("/", "per") and words and self._peek(1).kind == "word":
                words.append(token.text)
            elif token.text == "^" and words:
                raised = self._peek(1)
                if raised.text in ("{", "("):
                    raised, self.place = self._peek(2), self.place + 2
                words += ["^", raised.text]
                self.place += 1
            else:
                break
            self.place += 1
        unit = unit_of(words)
        if words and unit is None and self._peek().kind != "word" and "/" not in words:
            self.place = max(start, self.place)
        return unit or (unit_of([self._currency]) if self._currency else None)

    def _refuse_more(self) -> None:
        """An operator or a variable that goes on from here makes all of it no amount."""
        token, after = self._peek(), self._peek(1)
        if token.kind == "end":
            return
        joined = not token.spaced
        if token.text in ("^", "**", "×", "÷", "·", "\\times", "\\cdot", "\\div", "\\over"):
            if not (token.text == "**" and (after.spaced or after.kind in ("end", "other"))):
                raise _Opaque
        if token.text in ("+", "*", "/", "-") and (_is_variable(after) or after.kind == "command"):
            raise _Opaque
        if token.text == "+" and after.kind != "end":
            raise _Opaque
        if token.kind == "command" and token.text not in ("\\approx", "\\implies", "\\quad"):
            raise _Opaque
        if token.text in ("_", "√", "π") or (token.text in ("(", "[", "{") and joined):
            raise _Opaque
        if token.kind == "number" or token.kind == "opaque":
            raise _Opaque
        if token.text in _SCALES or token.text == "!" and joined and self._is_factorial():
            raise _Opaque
        if token.kind == "word":
            self._refuse_word(token, joined, after)

    def _is_factorial(self) -> bool:
        return self._peek(1).kind != "end"

    def _refuse_word(self, token: Token, joined: bool, after: Token) -> None:
        low = token.text.lower()
        if low in _FUNCTIONS or low in ("squared", "cubed", "factorial", "times", "plus", "minus"):
            raise _Opaque
        if not token.text.isascii() and not _VARIABLES.match(token.text):
            return  # a word of a script without gaps, such as a counter in Chinese
        if joined and len(token.text) < 3:
            raise _Opaque
        if not joined and _is_variable(token) and token.text not in _LETTERS:
            raise _Opaque


def _is_article(token: Token) -> bool:
    return token.text in ("a", "A")


def _decimal(text: str) -> Fraction:
    if len(text) > MOST_DIGITS:
        raise _Opaque
    plain_text = re.sub(r"[,'_]", "", text)
    mantissa, _, exponent = plain_text.lower().partition("e")
    value = Fraction(mantissa)
    return value * _raised(Fraction(10), Fraction(int(exponent))) if exponent else value


def _divided(above: Fraction, below: Fraction) -> Fraction:
    if not below:
        raise _Opaque
    return above / below


def _raised(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator == 2 and base >= 0:
        return _raised(_root(base), Fraction(exponent.numerator))
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator != 1 or bits * abs(exponent) > MOST_BITS or not (base or exponent > 0):
        raise _Opaque
    return base ** int(exponent)


def _root(value: Fraction) -> Fraction:
    if value < 0:
        raise _Opaque
    above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if above * above != value.numerator or below * below != value.denominator:
        raise _Opaque
    return Fraction(above, below)


def _factorial(value: Fraction) -> Fraction:
    if value.denominator != 1 or not 0 <= value <= MOST_FACTORIAL:
        raise _Opaque
    return Fraction(math.factorial(int(value)))


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MOST_BITS:
        raise _Opaque
    return value
