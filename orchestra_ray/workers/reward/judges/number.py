r"""Grader of numbers: equal amounts, in any notation.

`amounts` defines an amount. Marked text of an answer (`statement`) and the reference are one amount
as a whole, or no number. A sentence that states the answer has the value at the end of its
equations: "The answer is 4 + 4 = 8" is 8; "5 or 6" and other lists have none. In prose without a
statement the last amount counts. Integers are compared exactly, other amounts as exact fractions;
if one of the two is not a finite decimal, they may differ by a millionth. A unit on one side only
is ignored; two known units are converted. A percentage equals its number without the sign, and its
fraction; 0.7 does not equal 0.7%. References that are not numbers, such as 12:00, are compared as
text.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from orchestra_ray.data.catalogue.parsers import MOST_NESTED
from orchestra_ray.workers.reward.judges.amounts import Amount, Found, found_in, whole
from orchestra_ray.workers.reward.judges.exact import normal
from orchestra_ray.workers.reward.judges.statement import Place, Statement, stated, unmarked
from orchestra_ray.workers.reward.judges.tokens import plain
from orchestra_ray.workers.reward.judges.words import worded

TOLERANCE = Fraction(1, 1_000_000)  # relative to the reference, for rounded decimals
ROUNDING = Fraction(1, 10**12)  # relative, for floating-point results
_CUT = re.compile(
    r"\s*(?:[(\[]|,\s*(?:which|where|as|because|since|with|after|when|so that)\b"
    r"|\b(?:because|since|given that|as we|as it|after|when|where)\b).*",
    re.IGNORECASE | re.DOTALL,
)
_SUBORDINATE = re.compile(
    r"\A\s*(?:because|since|given that|as|after|when|if)\b.*,(?!\d)", re.IGNORECASE | re.DOTALL
)
_RESTATED = re.compile(
    r"=|≈|\\approx|⇒|→|\\implies|\b(?:is|are|so|thus|hence|therefore|equals?|makes?|gives?|i\.e)\b",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*([^*]{1,100})\*\*")
_GOES_ON = re.compile(r"[.?!]\s|\b(?:but|no|not|or|instead|actually|wait)\b", re.IGNORECASE)
_ABOUT = re.compile(r"(?<=[\w})%])\s*(?:≈|\\approx).*$", re.DOTALL)
_EQUATION = re.compile(r"=|≈|\\approx|\\Rightarrow|\\implies|⇒|→")
_NEGATED = re.compile(r"\b(?:not|never|isn't|aren't)\s+(?:\w+\s+){0,2}$", re.IGNORECASE)
_BOUND_BEFORE = re.compile(
    r"\b(?:no\s+)?(?:at\s+least|at\s+most"
    r"|(?:more|less|fewer|greater|larger|smaller|higher|lower)\s+than"
    r"|over|under|above|below|up\s+to)\s*$",
    re.IGNORECASE,
)
_BOUND_AFTER = re.compile(r"\s*(?:or|and)\s+(?:more|less|fewer|above|below|up|over|so)\b", re.I)
_OR = re.compile(r"\bor\b", re.IGNORECASE)
_LIST_WORD = re.compile(r"\b(?:or|and)\b|,(?!\d{3})|;", re.IGNORECASE)
_LISTED = re.compile(
    r"\s*(?:[^\W\d]+\s*)?(?:,|;|/|&|(?:,\s*)?\b(?:or|and|to|through)\b)\s*(?:[A-Za-z]\s*=\s*)?",
    re.IGNORECASE,
)


def is_number(reference: str, answer: str) -> bool:
    """Returns whether both are the same amount; a reference without amount is compared as text."""
    right = _marked(reference)
    if right is None:
        return _text(reference) in {_text(answer), *(_text(one.text) for one in stated(answer))}
    given = amount(answer)
    return given is not None and _same(right, given)


def amount(text: str) -> Amount | None:
    """Returns the amount stated by an answer; None if it states none or several."""
    read = [_read(one) for one in stated(text)]
    return _only(read[::-1])


def near(right: Fraction, given: Fraction) -> bool:
    """Compares integers exactly, others up to rounding."""
    if right == given:
        return True
    if right.denominator == 1:
        return False
    ends = _ends(right) and _ends(given)
    return abs(right - given) <= (ROUNDING if ends else TOLERANCE) * abs(right)


def _ends(value: Fraction) -> bool:
    """Returns whether the value is a finite decimal."""
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1


def _same(right: Amount, given: Amount) -> bool:
    if right.unit is not None and given.unit is not None:
        if right.unit.measures != given.unit.measures:
            return False
        return near(right.value * right.unit.factor, given.value * given.unit.factor)
    is_share = given.percent and not right.percent and abs(right.value) < 1
    if not is_share and near(right.value, given.value):
        return True
    hundred = {(True, False): Fraction(1, 100), (False, True): Fraction(100)}
    factor = hundred.get((right.percent, given.percent))
    return factor is not None and near(right.value * factor, given.value)


def _read(one: Statement) -> Amount | None:
    if one.place is Place.MARKED:
        return _marked(one.text)
    text = plain(unmarked(one.text))
    if (there := _as_whole(text)) is not None:
        return there
    if one.place is Place.PROSE:
        if (alone := _emphasised(one.text)) is not None:
            return alone
        bounded = _BOUND_BEFORE.match(f"{text.strip()[:20].rstrip('0123456789.,')}")
        return None if bounded else _last(text)
    said = _of_sentence(text)
    if said or not one.after:
        return _only(said)
    return _last(plain(one.after))


def _emphasised(text: str) -> Amount | None:
    """Returns the only bold amount of the last line: `She pays **$64** for 16 glasses.`"""
    line = text.rstrip().rpartition("\n")[2]
    marked = list(_BOLD.finditer(line))
    if len(marked) != 1 or _NEGATED.search(line[: marked[0].start()][-60:]):
        return None
    return None if _GOES_ON.search(line, marked[0].end()) else whole(plain(marked[0][1]))


def _marked(text: str) -> Amount | None:
    """Reads marked text as one whole amount, also inside nested boxes or marks."""
    for _ in range(MOST_NESTED + 1):
        marked = stated(text)
        if marked[0].place is not Place.MARKED:
            break
        if len(marked) > 1 or len(marked[0].text) >= len(text):
            return None
        text = marked[0].text
    else:
        return None
    text = plain(unmarked(text))
    inner = stated(text)[-1]
    if inner.place is Place.SENTENCE:
        said = _of_sentence(inner.text)
        return _only(said)
    return _as_whole(text)


def _as_whole(text: str) -> Amount | None:
    """Reads one amount, in digits or words, after any equation signs."""
    *before, last = _EQUATION.split(_ABOUT.sub("", text.strip()))
    if any(_LIST_WORD.search(part) for part in before[1:]):
        return None
    if (one := whole(last) or worded(last)) is not None:
        return one
    return _only([whole(part) for part in _OR.split(last)])


def _only(said: Sequence[Amount | None]) -> Amount | None:
    """Returns the common amount if all are equal, as in `3/2 or 1.5`."""
    first = said[0] if said else None
    if first is None or any(one is None or not _same(first, one) for one in said[1:]):
        return None
    return first


def _of_sentence(text: str) -> Sequence[Amount | None]:
    """Returns the amounts of a statement: one, or several if it leaves them open."""
    text = _SUBORDINATE.sub("", text, count=1)
    text = _CUT.sub("", text, count=1) if not text.startswith(("(", "[")) else text
    said: Sequence[Amount | None] = []
    for piece in _RESTATED.split(text):
        if (one := whole(piece) or worded(piece)) is not None:
            said = [one]
        elif listed := _listed(piece):
            said = listed
    return said


def _listed(text: str) -> Sequence[Amount | None]:
    """Returns the first amount of a piece and those listed with it, without negated ones."""
    listed: list[Found] = []
    for one in found_in(text):
        if not listed and _NEGATED.search(text[: one.start][-60:]):
            continue
        if listed and not _LISTED.fullmatch(text[listed[-1].end : one.start]):
            break
        listed.append(replace(one, amount=None) if _is_bound(text, one) else one)
    return [one.amount for one in listed]


def _last(text: str) -> Amount | None:
    """Returns the last undenied amount of prose, unless it ends a list."""
    there = [one for one in found_in(text) if not _NEGATED.search(text[: one.start][-60:])]
    if len(there) > 1 and _LISTED.fullmatch(text[there[-2].end : there[-1].start]):
        return None
    return there[-1].amount if there and not _BOUND_AFTER.match(text, there[-1].end) else None


def _is_bound(text: str, one: Found) -> bool:
    """Returns whether a number is only a bound, as in `at least 5` and `5 or more`."""
    before = _BOUND_BEFORE.search(text[: one.start][-60:])
    return bool(before or _BOUND_AFTER.match(text, one.end))


def _text(text: str) -> str:
    return normal(plain(unmarked(text))).strip(" .$")
