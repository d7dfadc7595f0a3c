from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.money import nanousd, token_cost_nanousd, usd


def test_a_million_input_tokens_of_gpt5_cost_one_dollar_and_a_quarter() -> None:
    assert token_cost_nanousd(1_000_000, nanousd(1.25)) == nanousd("1.25") == 1_250_000_000


def test_a_float_counts_as_its_decimal() -> None:
    assert nanousd(0.1) * 3 == nanousd(0.3)


@given(st.integers(0, 10**8), st.integers(0, 10**12))
def test_a_cost_is_off_by_half_a_nanodollar_at_most(tokens: int, price: int) -> None:
    exact = Fraction(tokens * price, 1_000_000)
    assert abs(token_cost_nanousd(tokens, price) - exact) <= Fraction(1, 2)


@given(st.integers(-(10**15), 10**15))
def test_dollars_and_back(amount: int) -> None:
    assert abs(nanousd(usd(amount)) - amount) <= abs(amount) * 2**-50


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        token_cost_nanousd(-1, 5)
