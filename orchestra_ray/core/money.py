"""Money as integer nano-dollars (1 USD = 10**9), so that sums are exact in any order."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal

NANOUSD_PER_USD = 1_000_000_000
_MILLION = 1_000_000
_NANO = 1_000_000_000
# Its own: some task families of reasoning-gym lower the precision of the thread's.
_EXACT = Context(prec=100, rounding=ROUND_HALF_UP)


def nanousd(usd: float | int | str) -> int:
    """Nano-dollars of an amount in dollars, rounded half up; floats count as their decimal repr."""
    exact = _EXACT.multiply(Decimal(str(usd)), Decimal(NANOUSD_PER_USD))
    return int(_EXACT.to_integral_value(exact))


def usd(amount_nanousd: int) -> float:
    """Dollars, for people and for reward features; never summed back into money."""
    return amount_nanousd / NANOUSD_PER_USD


@dataclass(frozen=True, slots=True)
class Usage:
    """What a provider bills by. `input_tokens` holds the cached ones, `output_tokens` reasoning.

    `billed_s` is given where not all of a call's seconds are billed.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    searches: int = 0
    billed_s: float | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """What a call costs, in integer nano-dollars."""

    input_nanousd_per_mtok: int = 0
    cached_nanousd_per_mtok: int = 0
    output_nanousd_per_mtok: int = 0
    call_nanousd: int = 0
    second_nanousd: int = 0
    search_nanousd: int = 0

    def cost_nanousd(self, usage: Usage, service_s: float = 0.0) -> int:
        """Tokens and seconds together are rounded half up to a whole nano-dollar, once."""
        service_s = service_s if usage.billed_s is None else usage.billed_s
        if usage.cached_tokens > usage.input_tokens or min(usage.cached_tokens, service_s) < 0:
            raise ValueError(f"Prices: {usage} in {service_s} s cannot be billed")
        tokens = (
            (usage.input_tokens - usage.cached_tokens) * self.input_nanousd_per_mtok
            + usage.cached_tokens * self.cached_nanousd_per_mtok
            + usage.output_tokens * self.output_nanousd_per_mtok
        )
        seconds = round(service_s * _NANO) * self.second_nanousd
        parts = tokens * (_NANO // _MILLION) + seconds
        return (
            self.call_nanousd + usage.searches * self.search_nanousd + (parts + _NANO // 2) // _NANO
        )
