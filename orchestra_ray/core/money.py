"""Money as integer nano-dollars (1 USD = 10**9), so that sums are exact in any order."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal

NANOUSD_PER_USD = 1_000_000_000
_MILLION = 1_000_000
_NANO = 1_000_000_000
# Not the thread's context: some task families of reasoning-gym lower its precision.
_EXACT = Context(prec=100, rounding=ROUND_HALF_UP)


def nanousd(usd: float | int | str) -> int:
    """Returns the nano-dollars of `usd` dollars, rounded half up; a float counts as its repr."""
    exact = _EXACT.multiply(Decimal(str(usd)), Decimal(NANOUSD_PER_USD))
    return int(_EXACT.to_integral_value(exact))


def usd(amount_nanousd: int) -> float:
    """Returns dollars, for display and reward features; never converted back and summed."""
    return amount_nanousd / NANOUSD_PER_USD


@dataclass(frozen=True, slots=True)
class Usage:
    """The amounts that a provider bills.

    `input_tokens` includes `cached_tokens`, and `output_tokens` includes `reasoning_tokens`.
    billed_s: the billed seconds, if not all of a call's are.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    searches: int = 0
    billed_s: float | None = None


def sum_of_usage(one: Usage, other: Usage, billed_s: float | None) -> Usage:
    """Returns the sum; `billed_s` is given, since it depends on the seconds of both calls."""
    return Usage(
        input_tokens=one.input_tokens + other.input_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        reasoning_tokens=one.reasoning_tokens + other.reasoning_tokens,
        searches=one.searches + other.searches,
        billed_s=billed_s,
    )


@dataclass(frozen=True, slots=True)
class Prices:
    """The prices of a model or tool, in integer nano-dollars."""

    input_nanousd_per_mtok: int = 0
    cached_nanousd_per_mtok: int = 0
    output_nanousd_per_mtok: int = 0
    call_nanousd: int = 0
    second_nanousd: int = 0
    search_nanousd: int = 0

    def cost_nanousd(self, usage: Usage, service_s: float = 0.0) -> int:
        """Returns the cost of a call; the sum of tokens and seconds is rounded half up, once.

        Raises ValueError if the usage is impossible.
        """
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
