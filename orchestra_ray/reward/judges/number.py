r"""Number: the same amount, however it is written.

Read are signs, grouping commas, fractions, mixed numbers and \frac, exponents (1e3, 2 x 10^3),
percent, currency, ordinals, words from thousand to trillion, and units. Of an answer in prose
counts what is boxed, else the number right after its last "answer", else its last number; so a
list of guesses is worth no more than one of them. Amounts are exact fractions: two differ unless
they agree to a millionth. A unit on one side only is let pass; two that are known and differ are
not the same. A percentage equals its number with the sign left out, and its fraction.
"""

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction

from orchestra_ray.catalogue.parsers import Parser, parse
from orchestra_ray.reward.judges.exact import is_exact

TOLERANCE = Fraction(1, 1_000_000)  # of the reference
MOST_DIGITS, MOST_EXPONENT = 300, 400  # what is longer is no amount that anyone means
MOST_CHARACTERS = 20_000  # at the end of an answer, that are read

_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
_AMOUNT = re.compile(
    rf"""
    (?:(?<![\w)\]^])(?P<sign>[-+])\s*)? (?P<currency>[$€£])?\s*
    (?<![A-Za-z_^{{])
    (?:
        (?P<whole>\d+)\s+(?P<above>\d+)/(?P<below>\d+)
        | (?P<top>{_DECIMAL})\s*/\s*(?P<bottom>{_DECIMAL})
        | (?P<plain>{_DECIMAL})
          (?:
              e(?P<e>[-+]?\d+)
              | \s*(?:x|\*|\\times|\\cdot)\s*10\s*(?:\^|\*\*)\s*\{{?(?P<p>[-+]?\d+)\}}?
          )?
    )
    (?:(?:st|nd|rd|th)\b)?
    \s*(?:(?P<scale>thousand|million|billion|trillion)\b)?
    \s*(?P<percent>%|per\s?cent\b)?
    \s*(?P<unit>[a-z$€£]+)?
    """,
    re.VERBOSE | re.IGNORECASE,
)
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*([-+]?[\d.,]+)\s*\}\s*\{\s*([\d.,]+)\s*\}")
_TEXT = re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}")
_MARKUP = re.compile(r"\\(?=[$%])|\\[!,;:]|`|(?<!\w)\*\*|\*\*(?!\w)|\{,\}")
_SPACED = re.compile(r"(?<![\d.,/])\d{1,3}(?: \d{3})+(?![\d/])")
_VULGAR = re.compile(r"(?<=\d)(?=[\u00bc-\u00be\u2150-\u215e])")
_RAISED = re.compile(r"[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207a\u207b]+")
_ANSWER = re.compile(r"\banswer\s*(?:is\b|[:=])\s*[:=]?", re.IGNORECASE)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SIGNS = str.maketrans("−–—×⁄", "---x/")
_UNITS = {
    name: names.split()[0]
    for names in (
        "mm millimeter millimeters millimetre millimetres",
        "cm centimeter centimeters centimetre centimetres",
        "m meter meters metre metres",
        "km kilometer kilometers kilometre kilometres",
        "inch inches",
        "ft foot feet",
        "mile miles mi",
        "mg milligram milligrams",
        "g gram grams",
        "kg kilogram kilograms",
        "lb lbs pound pounds",
        "s sec secs second seconds",
        "min mins minute minutes",
        "h hr hrs hour hours",
        "day days",
        "week weeks",
        "month months",
        "year years yr yrs",
        "cent cents",
        "$ dollar dollars usd",
        "€ euro euros eur",
        "£ gbp",
    )
    for name in names.split()
}


@dataclass(frozen=True, slots=True)
class Amount:
    """`unit` is one that is known, by its first name; "" where there is none."""

    value: Fraction
    percent: bool
    unit: str


def amount(text: str) -> Amount | None:
    """The number that an answer comes to; None where it has none."""
    plain = _plain(parse(Parser.BOXED, text))
    parts = _ANSWER.split(plain)
    if len(parts) > 1 and (after := _found(parts[-1])):
        return after[0]
    found = _found(plain)
    return found[-1] if found else None


def is_number(reference: str, answer: str) -> bool:
    """Whether both come to one amount; a reference that is not one number is compared whole."""
    there = _found(_plain(reference))
    given = amount(answer)
    if len(there) != 1 or given is None:
        return is_exact(reference, answer)
    (right,) = there
    if right.unit and given.unit and right.unit != given.unit:
        return False
    if _near(right.value, given.value):
        return True
    hundred = {(True, False): Fraction(1, 100), (False, True): Fraction(100)}
    factor = hundred.get((right.percent, given.percent))
    return factor is not None and _near(right.value * factor, given.value)


def _near(right: Fraction, given: Fraction) -> bool:
    return abs(right - given) <= TOLERANCE * abs(right)


def _plain(text: str) -> str:
    """`text` in the characters and forms that `_AMOUNT` knows."""
    text = " ".join(text[-MOST_CHARACTERS:].split())  # patterns take long over long gaps
    text = _RAISED.sub(lambda raised: f"^{raised[0]}", _VULGAR.sub(" ", text))
    text = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    text = _FRACTION.sub(r" \1/\2 ", _TEXT.sub(r" \1 ", text))
    text = _MARKUP.sub("", text)
    return _SPACED.sub(lambda spaced: spaced[0].replace(" ", ""), text)


def _found(text: str) -> list[Amount]:
    read = (_amount(match) for match in _AMOUNT.finditer(text))
    return [one for one in read if one is not None]


def _amount(match: re.Match[str]) -> Amount | None:
    part = match.groupdict()
    exponent = int((part["e"] or part["p"] or "0")[:6])
    if len(match[0]) > MOST_DIGITS or abs(exponent) > MOST_EXPONENT:
        return None
    try:
        if part["whole"]:
            value = int(part["whole"]) + Fraction(int(part["above"]), int(part["below"]))
        elif part["top"]:
            value = _decimal(part["top"]) / _decimal(part["bottom"])
        else:
            value = _decimal(part["plain"]) * Fraction(10) ** exponent
    except ZeroDivisionError:
        return None
    value *= _SCALES.get((part["scale"] or "").lower(), 1)
    unit = _UNITS.get((part["unit"] or part["currency"] or "").lower(), "")
    signed = -value if part["sign"] == "-" else value
    return Amount(signed, bool(part["percent"]), unit)


def _decimal(text: str) -> Fraction:
    return Fraction(text.replace(",", ""))
