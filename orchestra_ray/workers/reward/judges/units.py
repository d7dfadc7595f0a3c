"""Units of measure by name, with quantity and factor.

Words that are not in the table are not units, so that `72 clips` is 72. Two amounts with known
units differ if the units measure different quantities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

_TABLE = """
length    1/1000000000 nm nanometer nanometers nanometre nanometres
length    1/1000000 µm μm micrometer micrometers micrometre micrometres
length    1/1000 mm millimeter millimeters millimetre millimetres
length    1/100 cm centimeter centimeters centimetre centimetres
length    1/10 dm decimeter decimeters decimetre decimetres
length    1 m meter meters metre metres
length    1000 km kilometer kilometers kilometre kilometres
length    254/10000 inch inches
length    3048/10000 ft foot feet
length    9144/10000 yd yard yards
length    1609344/1000 mi mile miles
mass      1/1000000 mg milligram milligrams
mass      1/1000 g gram grams
mass      1 kg kilogram kilograms kilo kilos
mass      1000 tonne tonnes
mass      45359237/100000000 lb lbs pound pounds
mass      28349523125/1000000000000 oz ounce ounces
time      1/1000 ms millisecond milliseconds
time      1 s sec secs second seconds
time      60 min mins minute minutes
time      3600 h hr hrs hour hours
time      86400 day days
time      604800 week weeks
months    1 month months
months    12 year years yr yrs
volume    1/1000 ml milliliter milliliters millilitre millilitres
volume    1 l liter liters litre litres
usd       1/100 cent cents ¢
usd       1 $ dollar dollars usd
eur       1 € euro euros eur
gbp       1 £ gbp
celsius   1 °C celsius
fahrenheit 1 °F fahrenheit
degree    1 ° degree degrees deg
radian    1 rad radian radians
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """`measures`: powers of quantities, sorted by name."""

    measures: tuple[tuple[str, int], ...]
    factor: Fraction

    def over(self, other: "Unit") -> "Unit":
        powers = dict(self.measures)
        for name, power in other.measures:
            powers[name] = powers.get(name, 0) - power
        kept = tuple(sorted((name, power) for name, power in powers.items() if power))
        return Unit(kept, self.factor / other.factor)

    def to(self, power: int) -> "Unit":
        return Unit(tuple((name, one * power) for name, one in self.measures), self.factor**power)


def _read() -> Mapping[str, Unit]:
    found = {}
    for line in _TABLE.strip().splitlines():
        measure, factor, *names = line.split()
        unit = Unit(((measure, 1),), Fraction(factor))
        found.update((name, unit) for name in names)
    return found


UNITS = _read()
CURRENCIES = "$€£"


def unit_of(words: Sequence[str]) -> Unit | None:
    """Returns the unit of words such as `square`, `km`, `/`, `h`, `^`, `2`; None if unknown."""
    found: Unit | None = None
    below, power = False, 1
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if word in ("/", "per"):
            if found is None or below:
                return None
            below = True
            continue
        if word.lower() in ("square", "sq", "cubic", "cu"):
            power = 2 if word.lower().startswith("s") else 3
            continue
        one = UNITS.get(word) or UNITS.get(word.lower())
        if one is None or (found is not None and not below):
            return None
        if words[place : place + 1] == ["^"] and place + 1 < len(words):
            raised = words[place + 1]
            power, place = int(raised) if raised in ("1", "2", "3") else 0, place + 2
        if not power:
            return None
        one = one.to(power)
        found, power = (one if found is None else found.over(one)), 1
    return found
