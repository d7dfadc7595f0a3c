"""Prices as stated in files, and the check of their unit.

The unit is dollars per million tokens. Prices per thousand tokens, per token, in another unit, or
ten times too low are rejected: a token price must lie in the range that providers charge, and that
of a model with a single official price must lie near it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import Prices, nanousd

FORM = ConfigDict(extra="forbid", allow_inf_nan=False)
LEAST_USD_PER_MTOK, MOST_USD_PER_MTOK = 0.01, 1_000.0
LEAST_CACHED_USD_PER_MTOK = 0.001
NEAR = 5.0  # factor around the official price; batch and priority tiers are half and double

# Dollars per million (input, output) tokens of models with a single provider.
OFFICIAL_USD_PER_MTOK: Mapping[str, tuple[float, float]] = {
    "gpt-5": (1.25, 10.0),
    "gpt-5-mini": (0.25, 2.0),
    "gpt-4o": (2.5, 10.0),
    "o3-mini": (1.1, 4.4),
    "claude-opus-4-1": (15.0, 75.0),
    "claude-sonnet-4-1": (3.0, 15.0),
}
_DATE = re.compile(r"-\d{4}-?\d{2}-?\d{2}$")


def _not_negative(value: float) -> float:
    if value < 0:
        raise ValueError("it cannot be negative")
    return value


Amount = Annotated[float, Field(strict=True), AfterValidator(_not_negative)]


@dataclass(config=FORM)
class PriceRow:
    """Prices in dollars."""

    input_usd_per_mtok: Amount = 0.0
    cached_usd_per_mtok: Amount | None = None  # None: the price of other input
    output_usd_per_mtok: Amount = 0.0
    call_usd: Amount = 0.0
    second_usd: Amount = 0.0
    search_usd: Amount = 0.0


def prices_of(where: str, row: PriceRow, names: Iterable[str]) -> Prices:
    """Returns the prices in nano-dollars.

    Raises `ConfigError` at a price out of range, or far from the official price of the model under
    any of its `names`.
    """
    cached = row.input_usd_per_mtok if row.cached_usd_per_mtok is None else row.cached_usd_per_mtok
    for key, usd, least, most in (
        ("input_usd_per_mtok", row.input_usd_per_mtok, LEAST_USD_PER_MTOK, MOST_USD_PER_MTOK),
        ("output_usd_per_mtok", row.output_usd_per_mtok, LEAST_USD_PER_MTOK, MOST_USD_PER_MTOK),
        ("cached_usd_per_mtok", cached, LEAST_CACHED_USD_PER_MTOK, row.input_usd_per_mtok),
    ):
        if usd and not least <= usd <= most:
            problem = f"{key} is {usd:g}, outside {least:g} to {most:g}"
            raise ConfigError(f"{where}: prices.{problem}; give dollars per million tokens")
    _check_near_official(where, row, names)
    return Prices(
        input_nanousd_per_mtok=nanousd(row.input_usd_per_mtok),
        cached_nanousd_per_mtok=nanousd(cached),
        output_nanousd_per_mtok=nanousd(row.output_usd_per_mtok),
        call_nanousd=nanousd(row.call_usd),
        second_nanousd=nanousd(row.second_usd),
        search_nanousd=nanousd(row.search_usd),
    )


def unit_hint(key: str) -> str:
    """Returns the remedy for an unknown price key, from the unit that its name suggests."""
    known = ", ".join(field.name for field in fields(PriceRow))
    unit = key.lower()
    if re.search(r"ktok|1k|thousand", unit):
        remedy = "multiply by 1,000"
    elif re.search(r"per_?token|tokens_per_million", unit):  # keys of the released files
        remedy = "multiply a price per token by 1,000,000"
    else:
        return f"the keys of prices are {known}"
    return f"tokens are priced in dollars per million: {remedy}; the keys of prices are {known}"


def _check_near_official(where: str, row: PriceRow, names: Iterable[str]) -> None:
    for name in names:
        official = OFFICIAL_USD_PER_MTOK.get(_plain(name))
        given = (row.input_usd_per_mtok, row.output_usd_per_mtok)
        for key, usd, known in zip(("input", "output"), given, official or (), strict=False):
            if usd and not known / NEAR <= usd <= known * NEAR:
                problem = f"prices.{key}_usd_per_mtok is {usd:g}, where {name} costs {known:g}"
                raise ConfigError(f"{where}: {problem}; give dollars per million tokens")


def _plain(name: str) -> str:
    """Returns a model's name without owner and date: openai/gpt-5-2025-08-07 is gpt-5."""
    return _DATE.sub("", name.lower().rpartition("/")[2]).replace(".", "-")
