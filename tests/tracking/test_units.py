"""Numbers as they are displayed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.tracking import units


@pytest.mark.parametrize(
    ("cost_usd", "said"),
    [(1.2, "$1.20"), (0.26, "26.0¢"), (0.00032, "0.0320¢"), (1.2e-5, "12.0µ$"), (0.0, "0¢")],
)
def test_costs_are_told_in_the_unit_that_fits(cost_usd: float, said: str) -> None:
    assert units.cost(cost_usd) == said


@given(st.floats(1e-9, 1e9))
def test_three_digits_are_within_half_a_percent(value: float) -> None:
    text = units.short(value).replace(",", "")
    assert "e" not in text
    if value >= 1e-6:
        assert float(text) == pytest.approx(value, rel=0.006)


def test_a_column_shows_its_smallest_value_too() -> None:
    assert units.column_decimals([26.0, 0.012, 0.0]) == 3
    assert units.column_decimals([4.0, 5.0]) == 2
    assert units.column_decimals([26.0, 1e-9]) == 5
    assert units.column_decimals([]) == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [(0.05, "0.05"), (1000.0, "1,000"), (0.30000000000000004, "0.3"), (-0.0, "0")],
)
def test_ticks_have_no_trailing_zeros(value: float, said: str) -> None:
    assert units.trimmed(value) == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(7.2, "0:07"), (59.7, "1:00"), (750, "12:30"), (11_100, "3:05:00")]
)
def test_durations(seconds: float, said: str) -> None:
    assert units.duration(seconds) == said
