"""Formats numbers for display: money in a fitting unit, digits, and durations."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CostUnit:
    """A unit of money; a dollar has `per_usd` of them."""

    symbol: str
    per_usd: float


_UNITS = (CostUnit("$", 1.0), CostUnit("¢", 1e2), CostUnit("µ$", 1e6))
_SMALLEST_USD = (1.0, 1e-4, 0.0)  # the smallest amount that is shown in each unit


def cost_unit(costs_usd: Iterable[float]) -> CostUnit:
    """Returns the unit in which the largest of the costs has few digits."""
    largest = max((cost for cost in costs_usd if math.isfinite(cost)), default=0.0)
    if largest <= 0.0:
        return _UNITS[1]
    return next(u for u, least in zip(_UNITS, _SMALLEST_USD, strict=True) if largest >= least)


def decimals(values: Iterable[float], digits: int = 3) -> int:
    """Returns the decimals for `digits` significant digits of the largest value."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest <= 0.0:
        return 0
    return min(max(digits - 1 - math.floor(math.log10(largest)), 0), 9)


def column_decimals(values: Sequence[float]) -> int:
    """Returns the decimals, at most 5, for 3 digits of the largest value and 2 of the smallest."""
    smallest = min((abs(value) for value in values if value != 0.0), default=0.0)
    return max(decimals(values), min(decimals([smallest], 2), 5))


def short(value: float, digits: int = 3) -> str:
    """Returns `digits` significant digits, without an exponent, with separators of thousands."""
    return f"{value:,.{decimals([value], digits)}f}"


def cost(cost_usd: float) -> str:
    """Returns an amount in a fitting unit: "$1.20", "0.0321¢", "12.0µ$"."""
    unit = cost_unit([cost_usd])
    number = short(cost_usd * unit.per_usd)
    return f"${number}" if unit.symbol == "$" else f"{number}{unit.symbol}"


def duration(seconds: float) -> str:
    """Returns the seconds as "0:07", "12:30" or "3:05:00"."""
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest_s:02}" if hours else f"{minutes}:{rest_s:02}"


def trimmed(value: float) -> str:
    """Returns `value` to nine decimals, without exponent or trailing zeros, for an axis."""
    text = f"{value:,.9f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text
