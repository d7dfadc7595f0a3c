"""What differs by rounding alone is equal: amounts, rewards, advantages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orchestra_ray.core.faults import DropReason
from orchestra_ray.workers.reward.advantage import (
    ESTIMATORS,
    batch_advantages,
    group_advantages,
    group_statistics,
)
from orchestra_ray.workers.reward.objectives import group_terms
from orchestra_ray.workers.reward.rounding import differs, spreads
from orchestra_ray.workers.reward.score import _reason

NAMES = st.sampled_from(list(ESTIMATORS))
WHITENED = st.sampled_from(["reinforce_pp", "gdpo"])
MINIMISE = np.array([False, True, True])  # outcome, dollars, seconds
SUMMANDS = [0.1, 0.2, 0.3, 0.7, 1.1, 2.3]
REWARDS = arrays(np.float64, st.integers(2, 12), elements=st.integers(-64, 64).map(lambda n: n / 8))


def noisy(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Each value moved by some steps of its last bit."""
    return values + steps * np.spacing(values)


@pytest.mark.parametrize("name", list(ESTIMATORS))
@pytest.mark.parametrize(
    "rewards", [[0.0, 1e-16], [0.6, 0.1 + 0.2 + 0.3, 0.6], [1.0, 1.0 - 1e-16], [-3e-17, 1e-16]]
)
def test_rewards_that_differ_by_rounding_teach_nothing(name: str, rewards: list[float]) -> None:
    advantages, keep = group_advantages(np.array(rewards), name)
    assert not keep and not advantages.any()
    assert _reason(np.array(rewards), np.array([True, False]), 0.0) is DropReason.EQUAL
    assert _reason(np.array(rewards), np.zeros(2, bool), 0.0) is DropReason.ALL_WRONG


@given(
    NAMES, st.floats(-1e6, 1e6), arrays(np.int64, st.integers(2, 16), elements=st.integers(0, 9))
)
def test_noise_in_the_last_bits_is_no_difference(
    name: str, reward: float, steps: np.ndarray
) -> None:
    advantages, keep = group_advantages(noisy(np.full(steps.size, reward), steps), name)
    assert not keep and not advantages.any()


@given(NAMES, REWARDS, st.data())
def test_noise_changes_no_group(name: str, rewards: np.ndarray, data: st.DataObject) -> None:
    steps = data.draw(arrays(np.int64, rewards.size, elements=st.integers(-3, 3)))
    order = data.draw(st.permutations(range(rewards.size)))
    here, keep = group_advantages(rewards, name)
    there, kept = group_advantages(noisy(rewards, steps)[order], name)
    assert kept == keep and np.isfinite(there).all()
    if name != "released":  # whose boost is a step at one deviation
        np.testing.assert_allclose(there, here[order], rtol=1e-6, atol=1e-6)


@given(REWARDS, st.floats(1, 1e3), st.floats(-1e3, 1e3))
def test_scale_and_shift_change_nothing_where_the_deviation_divides(
    rewards: np.ndarray, scale: float, shift: float
) -> None:
    here, keep = group_advantages(rewards)
    there, kept = group_advantages(rewards * scale + shift)
    if keep:
        assert kept
        np.testing.assert_allclose(there, here, atol=1e-6)
    assert kept <= spreads(rewards)


def test_a_deviation_that_misses_its_bound_by_rounding_meets_it() -> None:
    rewards = np.array([0.0, 0.1, 0.2])  # a deviation of 0.1, and of 0.1 less one bit
    for given_rewards in (rewards, rewards[::-1], rewards + 1, rewards + 3):
        assert group_advantages(given_rewards, "paper")[1]
        assert not group_advantages(given_rewards, "released")[1]


@pytest.mark.parametrize("preset", ["paper", "gdpo", "released"])
@given(
    orders=st.lists(st.permutations(SUMMANDS), min_size=2, max_size=8), scale=st.floats(1e-6, 1e6)
)
def test_sums_in_another_order_are_one_amount(
    preset: str, orders: list[list[float]], scale: float
) -> None:
    seconds = [sum(scale * one for one in order) for order in orders]
    rows = np.array([[1.0, 0.5, one] for one in seconds])
    right = np.ones(len(rows), bool)
    terms = group_terms(rows, np.array([1.0, 1.0, 1.0]), right, MINIMISE, preset)
    assert not terms.terms_G_K[:, 2].any() and not terms.slopes_G_K[:, 2].any()


def test_rewards_whose_parts_cancel_out_are_equal() -> None:
    """Cheap and slow, or dear and quick: what is left of the sum is rounding."""
    rows = np.array([[1.0, 0.1, 0.7], [1.0, 0.3, 0.5], [1.0, 0.7, 0.1]])
    terms = group_terms(rows, np.array([0.0, 1.0, 1.0]), np.ones(3, bool), MINIMISE, "gdpo")
    assert 0 < np.ptp(terms.rewards_G) < 1e-15
    size = float(np.abs(terms.terms_G_K).sum(axis=1).max())
    assert not group_statistics(terms.rewards_G, "gdpo", size=size).keep


@given(
    WHITENED,
    st.lists(
        st.tuples(st.floats(-1e6, 1e6), st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0, 7.0])),
        max_size=9,
    ),
)
def test_whitening_is_finite_over_any_counts(name: str, pairs: list[tuple[float, float]]) -> None:
    advantages, tokens = np.array(pairs).reshape(-1, 2).T
    whitened = batch_advantages(advantages, name, tokens_N=tokens)
    assert np.isfinite(whitened).all()
    if tokens.sum() <= 1:
        assert not whitened.any()


@pytest.mark.parametrize(
    ("advantages", "tokens"),
    [([1.0, 2.0], [1, 0]), ([1.0, 2.0], [0.5, 0.5]), ([3.0], [1]), ([1.0, 2.0], [0, 0])],
)
@pytest.mark.parametrize("name", ["reinforce_pp", "gdpo"])
def test_whitening_over_one_token_or_none_pushes_nowhere(
    name: str, advantages: list[float], tokens: list[float]
) -> None:
    found = batch_advantages(np.array(advantages), name, tokens_N=np.array(tokens))
    np.testing.assert_array_equal(found, np.zeros(len(advantages)))


@given(WHITENED, st.floats(-1e6, 1e6), arrays(np.int64, 5, elements=st.integers(0, 5)))
def test_whitening_stretches_no_noise(name: str, value: float, steps: np.ndarray) -> None:
    assert not batch_advantages(noisy(np.full(5, value), steps), name).any()


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e3))
def test_a_value_does_not_differ_from_itself_and_does_from_what_is_a_millionth_off(
    value: float, scale: float
) -> None:
    assert not differs(value * scale, value * scale)
    assert differs(value, value + 1e-6 * max(abs(value), 1e-3))
