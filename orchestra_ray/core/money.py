"""Money as integer nano-dollars (1 USD = 10**9), so that sums are exact in any order.

Prices are integers too: nano-dollars per million tokens.
"""

from decimal import ROUND_HALF_UP, Decimal

NANOUSD_PER_USD = 1_000_000_000


def nanousd(usd: float | int | str) -> int:
    """Nano-dollars of an amount in dollars, rounded half up; floats count as their decimal repr."""
    exact = Decimal(str(usd)) * NANOUSD_PER_USD
    return int(exact.to_integral_value(rounding=ROUND_HALF_UP))


def usd(amount_nanousd: int) -> float:
    """Dollars, for people and for reward features; never summed back into money."""
    return amount_nanousd / NANOUSD_PER_USD


def token_cost_nanousd(tokens: int, price_nanousd_per_mtok: int) -> int:
    """Cost of `tokens` at a price per million tokens, rounded half up to a whole nano-dollar."""
    if tokens < 0:
        raise ValueError(f"token_cost_nanousd: {tokens} tokens; a count cannot be negative")
    return (tokens * price_nanousd_per_mtok + 500_000) // 1_000_000
