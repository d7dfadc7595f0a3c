"""The penalty for length is DAPO's: nothing, a slope, and -1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.workers.reward.overlong import overlong_penalty


@pytest.mark.parametrize(
    ("tokens", "penalty"),
    [(0, 0.0), (16_384, 0.0), (17_408, -0.25), (18_432, -0.5), (20_480, -1.0), (99_999, -1.0)],
)
def test_the_penalty_is_that_of_the_paper(tokens: int, penalty: float) -> None:
    assert overlong_penalty(tokens, cap=20_480, margin=4_096) == penalty


@given(st.integers(1, 10_000), st.data())
def test_a_longer_response_is_never_punished_less(cap: int, data: st.DataObject) -> None:
    margin = data.draw(st.integers(1, cap))
    tokens = data.draw(st.integers(0, 2 * cap))
    shorter, longer = (overlong_penalty(n, cap, margin) for n in (tokens, tokens + 1))
    assert -1.0 <= longer <= shorter <= 0.0


@pytest.mark.parametrize("margin", [0, -1, 101])
def test_a_margin_that_does_not_fit_is_an_error(margin: int) -> None:
    with pytest.raises(ValueError, match="margin"):
        overlong_penalty(50, cap=100, margin=margin)
