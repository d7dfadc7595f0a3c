from decimal import localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.money import Prices, Usage, nanousd, usd

counts = st.integers(0, 10**8)
money = st.integers(0, 10**12)


def test_a_float_counts_as_its_decimal() -> None:
    assert nanousd(0.1) * 3 == nanousd(0.3)


@given(st.lists(counts, min_size=3, max_size=3), st.lists(money, min_size=5, max_size=5), counts)
def test_a_cost_is_off_by_half_a_nanodollar_at_most(
    tokens: list[int], prices: list[int], seconds: int
) -> None:
    fresh, cached, out = tokens
    usage = Usage(fresh + cached, cached, out, searches=2)
    per_token = fresh * prices[0] + cached * prices[1] + out * prices[2]
    exact = Fraction(per_token, 1_000_000) + seconds * prices[3] + 2 * prices[4] + 7
    asked = Prices(*prices[:3], call_nanousd=7, second_nanousd=prices[3], search_nanousd=prices[4])
    assert abs(asked.cost_nanousd(usage, float(seconds)) - exact) <= Fraction(1, 2)


def test_cached_tokens_and_output_have_prices_of_their_own() -> None:
    prices = Prices(1_000_000, 100_000, 10_000_000)
    assert prices.cost_nanousd(Usage(100, 60, 5, reasoning_tokens=4)) == 40 + 6 + 50


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(input_tokens=1_000_000), "1.25"),
        (Usage(1_000_000, cached_tokens=1_000_000), "0.125"),
        (Usage(output_tokens=1_000_000), "10"),
        (Usage(output_tokens=1_000_000, reasoning_tokens=900_000), "10"),
    ],
)
def test_a_million_tokens_of_gpt_5_cost_what_its_price_list_says(
    usage: Usage, dollars: str
) -> None:
    gpt_5 = Prices(nanousd("1.25"), nanousd("0.125"), nanousd(10))
    assert gpt_5.cost_nanousd(usage) == nanousd(dollars)


@given(st.integers(-(10**15), 10**15))
def test_dollars_and_back(amount: int) -> None:
    assert abs(nanousd(usd(amount)) - amount) <= abs(amount) * 2**-50


def test_money_is_exact_whatever_other_code_makes_of_the_decimal_context() -> None:
    with localcontext(prec=3):
        assert nanousd("1234.567891234") == 1_234_567_891_234
        assert nanousd(0.000_123_456_7) == 123_457


@pytest.mark.parametrize("usage", [Usage(5, 6), Usage(5, -1)])
def test_usage_that_cannot_be_is_refused(usage: Usage) -> None:
    with pytest.raises(ValueError, match="cannot be billed"):
        Prices().cost_nanousd(usage)
