r"""Reads amounts in text: an exact number with optional percent sign and unit.

    amount   := [about] sum [scale] [percent] [unit]        `arithmetic` defines a sum

An expression is evaluated exactly and as a whole. If a part of it has no rational value written
out in full (a variable, \pi, \sqrt{2}, H12, 12:00, 3,14), the expression is no amount: a single
term is never taken for the expression around it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from orchestra_ray.workers.reward.judges.arithmetic import Arithmetic, Opaque
from orchestra_ray.workers.reward.judges.tokens import VARIABLE, Token, is_variable, tokens_of
from orchestra_ray.workers.reward.judges.units import CURRENCIES, UNITS, Unit, unit_of

_SCALES = {
    **{"hundred": 10**2, "dozen": 12, "thousand": 10**3, "million": 10**6, "billion": 10**9},
    **{"trillion": 10**12},
}
_SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "bn": 10**9}
_OF_MONEY = {"m": 10**6, "b": 10**9, "mn": 10**6, "T": 10**12}
_FUNCTIONS = {"sin", "cos", "tan", "log", "ln", "exp", "sqrt", "pi", "choose", "mod", "infinity"}
_LETTERS = {"m", "g", "s", "h", "l", "L", "V", "W", "N", "J", "C", "F", "a", "I", "A"}
_ABOUT = {"about", "approximately", "roughly", "around", "≈", "~", "\\approx", "only", "exactly"}
# Words that may not follow the number of a whole amount.
_NO_UNIT = {
    *("or", "and", "to", "more", "less", "fewer", "least", "most", "than", "not", "but", "if"),
    *("through", "until", "between", "over", "plus", "minus", "times", "times.", "squared"),
    *("cubed", "halves", "thirds", "quarters", "fourths", "fifths", "digits", "factorial"),
}


@dataclass(frozen=True, slots=True)
class Amount:
    """`unit`: a known unit, or None."""

    value: Fraction
    percent: bool = False
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An amount in prose, or None for an unreadable one, with its start and end."""

    amount: Amount | None
    start: int
    end: int


def whole(text: str) -> Amount | None:
    """Returns the amount that a text, already `plain`, consists of; None if it is not one."""
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
    except Opaque:
        return None
    rest = tokens[reader.place :]
    if rest and (rest[0].text not in {"(", ","} or not rest[0].spaced and rest[0].text == "("):
        return None if not _is_noun(rest) else amount
    # Only a remark in brackets may follow; a comma would make it a list.
    return amount if not rest or (rest[0].text == "(" and rest[-1].text == ")") else None


def found_in(text: str) -> Iterator[Found]:
    """Yields every amount of prose, already `plain`, and None for similar but unreadable text."""
    tokens, place = tokens_of(text), 0
    while place < len(tokens):
        if not _begins(tokens, place):
            place += 1
            continue
        reader, start = _Reader(tokens), place
        try:
            amount = reader.amount(place)
            if _is_term(tokens, place):
                amount = None
        except Opaque:
            amount = None
        place = max(reader.place, place + 1)
        yield Found(amount, tokens[start].start, tokens[min(place, len(tokens)) - 1].end)


def _is_noun(rest: Sequence[Token]) -> bool:
    """Returns whether words after a number name the counted things without changing it."""
    if len(rest) > 8 or any(t.kind not in ("word", "operator", "other") for t in rest):
        return False
    words = [t.text.lower() for t in rest]
    if words == ["times"]:
        return True
    if rest[0].kind != "word" or any(word in _NO_UNIT or word in _FUNCTIONS for word in words):
        return False
    if any(t.kind == "operator" and t.text not in {"/", "(", ")"} for t in rest):
        return False
    return not any(t.text in {",", ";", "=", "<", ">"} for t in rest)


def _begins(tokens: Sequence[Token], place: int) -> bool:
    """Returns whether an amount may begin at `place`."""
    token = tokens[place]
    if token.kind in ("number", "opaque"):
        return True
    if token.kind == "command":
        return token.text in ("\\frac", "\\sqrt", "\\binom", "\\log", "\\ln", "\\pi")
    after = tokens[place + 1] if place + 1 < len(tokens) else None
    if token.text in CURRENCIES or token.text in "+-":
        if after is None or (after.spaced and token.text not in CURRENCIES):
            return False
        return (after.kind == "number" or after.text in ("\\frac", "\\sqrt")) or (
            after.text in CURRENCIES + "-"
            and after.text != token.text
            and place + 2 < len(tokens)
            and tokens[place + 2].kind == "number"
        )
    if token.text == "(" and after is not None:
        return after.kind == "number" and _closes(tokens, place)
    return False


def _closes(tokens: Sequence[Token], place: int) -> bool:
    """Returns whether a bracket is part of a longer expression, as in `(2+3)*4`."""
    for i in range(place + 1, min(place + 20, len(tokens) - 1)):
        if tokens[i].text == ")":
            return tokens[i + 1].text in {"*", "/", "^", "×", "+", "="}
        if tokens[i].kind not in ("number", "operator"):
            return False
    return False


def _is_term(tokens: Sequence[Token], place: int) -> bool:
    """Returns whether the preceding tokens make this a part of an unreadable expression."""
    if place == 0:
        return False
    here, before = tokens[place], tokens[place - 1]
    if not here.spaced and before.kind in ("word", "command") and before.text.isascii():
        return True
    if not here.spaced and before.text in {"_", "√", "π", "{", "}", ")", "]"}:
        return True
    if before.kind == "command" and before.text not in ("\\approx", "\\implies", "\\therefore"):
        return True
    if before.text == "(" and place > 1 and not before.spaced:
        return tokens[place - 2].kind in ("word", "command")  # f(7)
    if before.kind in ("number", "opaque") or before.text.lower() in _FUNCTIONS:
        return True
    if before.text in {"+", "*", "/", "^", "×", "·", "÷", "**"}:
        return not (before.text in {"*", "**"} and here.spaced != before.spaced)
    if before.text.lower() in {"minus", "plus", "times"}:
        return True
    if before.text in {"±", "∓", "≤", "≥"} or (before.text in {"<", ">"} and before.spaced):
        return True
    # `x - 5` has a value before the minus; a dash in prose has none.
    if before.text == "-" and place > 1:
        return tokens[place - 2].kind in ("number", "opaque") or is_variable(tokens[place - 2])
    return False


class _Reader(Arithmetic):
    """Reads an amount; `place` is the index of the next token."""

    def amount(self, place: int) -> Amount:
        self.place = place
        self._currency: str | None = None
        value = self._sum()
        value *= self._scale()
        percent = self._percent()
        unit = self._unit()
        self._refuse_more()
        return Amount(value, percent, unit)

    def _scale(self) -> int:
        """Reads up to two scale words, as in `3 hundred thousand`; skips an ordinal's ending."""
        if self._peek().text.lower() in ("st", "nd", "rd", "th") and not self._peek().spaced:
            self.place += 1
            return 1
        scale = 1
        for _ in range(2):
            factor = self._factor(self._peek())
            self.place += factor != 1
            scale *= factor
        return scale

    def _factor(self, token: Token) -> int:
        if token.text.lower() in _SCALES:
            return _SCALES[token.text.lower()]
        if token.text in _SUFFIXES and (not token.spaced or self._currency):
            return _SUFFIXES[token.text]
        if token.text in _OF_MONEY and self._currency and not token.spaced:
            return _OF_MONEY[token.text]
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
        while len(words) < 8:
            token = self._peek()
            is_part = token.text in UNITS or token.text.lower() in UNITS
            if token.text == "°" and self._peek(1).text in ("C", "F"):
                self.place += 1
                words.append(token.text + self._peek().text)
            elif is_part and not (_is_article(token) and self._peek(1).kind == "word"):
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
        return unit_of(words) or (unit_of([self._currency]) if self._currency else None)

    def _refuse_more(self) -> None:
        """Raises `Opaque` if an operator or a variable continues the expression."""
        token, after = self._peek(), self._peek(1)
        if token.kind == "end":
            return
        joined = not token.spaced
        if token.text in ("^", "**", "×", "÷", "·", "\\times", "\\cdot", "\\div", "\\over"):
            if not (token.text == "**" and (after.spaced or after.kind in ("end", "other"))):
                raise Opaque
        if token.text in ("+", "*", "/", "-") and (is_variable(after) or after.kind == "command"):
            raise Opaque
        if token.text == "+" and (joined or after.kind != "end"):
            raise Opaque
        if token.kind == "command" and token.text not in ("\\approx", "\\implies", "\\quad"):
            raise Opaque
        if token.text in ("_", "√", "π") or (token.text in ("(", "[", "{") and joined):
            raise Opaque
        if token.kind == "number" or token.kind == "opaque":
            raise Opaque
        if token.text in _SCALES or token.text == "!" and joined and self._is_factorial():
            raise Opaque
        if token.kind == "word":
            self._refuse_word(token, joined, after)

    def _is_factorial(self) -> bool:
        return self._peek(1).kind != "end"

    def _refuse_word(self, token: Token, joined: bool, after: Token) -> None:
        low = token.text.lower()
        if low in _FUNCTIONS or low in ("squared", "cubed", "factorial", "plus", "minus"):
            raise Opaque
        if low == "times" and _is_operand(after):
            raise Opaque
        if not token.text.isascii() and not VARIABLE.match(token.text):
            return  # a word of a script without spaces, such as a Chinese counter
        if joined and len(token.text) < 3:
            raise Opaque
        if not joined and is_variable(token) and token.text not in _LETTERS:
            raise Opaque


def _is_operand(token: Token) -> bool:
    return token.kind in ("number", "opaque", "command") or is_variable(token) or token.text == "("


def _is_article(token: Token) -> bool:
    return token.text in ("a", "A")
