"""Reads a whole text as a number in English: `three`, `forty-two`, `two thirds`, `a dozen`."""

import re
from fractions import Fraction

from orchestra_ray.workers.reward.judges.amounts import Amount
from orchestra_ray.workers.reward.judges.units import unit_of

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SMALL = {word: n for n, word in enumerate(_ONES)} | {
    word: 10 * n for n, word in enumerate(_TENS, 2)
}
_LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = {"half": 2, "halves": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "tenth": 10}
_WORD = re.compile(r"[a-z]+|[$%]")
MOST_WORDS = 12


def worded(text: str) -> Amount | None:
    """Returns the amount; `percent`, a known unit or one plural noun may follow the number."""
    low = text.lower().strip(" .,;:!")
    if len(low) > 200 or not re.fullmatch(r"[a-z$%\s-]+", low):
        return None
    words = _WORD.findall(low)
    if len(words) > MOST_WORDS:
        return None
    sign = -1 if words[:1] in (["minus"], ["negative"]) else 1
    words = words[1:] if sign < 0 else words
    value, used = _value(words)
    if value is None:
        return None
    rest = words[used:]
    if rest in (["percent"], ["per", "cent"], ["%"]):
        return Amount(sign * value, percent=True)
    unit = unit_of(rest) if rest else None
    noun = len(rest) == 1 and rest[0].endswith("s") and rest[0] not in ("is", "as", "less", "times")
    return Amount(sign * value, unit=unit) if not rest or unit or noun else None


def _value(words: list[str]) -> tuple[Fraction | None, int]:
    """Returns the number formed by the first words, and the number of these words."""
    total, group, place, last = 0, None, 0, ""
    while place < len(words):
        word = words[place]
        if word in ("a", "an") and place == 0:
            group = 1
        elif word in _SMALL and last not in ("small",):
            fits = group is None or last == "hundred" or (last == "ten" and _SMALL[word] < 10)
            if not fits:
                return None, 0
            group = (group or 0) + _SMALL[word]
            last = "ten" if _SMALL[word] >= 20 else "small"
        elif word == "hundred" and group:
            group, last = group * 100, "hundred"
        elif word == "dozen" and group:
            group, last = group * 12, "small"
        elif word in _LARGE and group:
            total, group, last = total + group * _LARGE[word], None, ""
        elif word == "and" and last == "hundred" and words[place + 1 : place + 2]:
            if words[place + 1] not in _SMALL:
                break
        elif word.removesuffix("s") in _PARTS or word in _PARTS:
            below = _PARTS[word] if word in _PARTS else _PARTS[word.removesuffix("s")]
            return (
                (Fraction(1 if group is None else group, below), place + 1)
                if not total
                else (
                    None,
                    0,
                )
            )
        else:
            break
        place += 1
    if words[:1] in (["a"], ["an"]) and place == 1:
        return None, 0
    return (None, 0) if place == 0 else (Fraction(total + (group or 0)), place)
