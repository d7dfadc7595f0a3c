"""Closed forms of every combination, and what always holds of them."""

import random
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orchestra_ray.workers.reward.combinations import COMBINATIONS, next_multiplier
from orchestra_ray.workers.reward.objectives import group_rewards, group_terms

# columns: calls of a tool, outcome, dollars, seconds
TOOL, OUTCOME, USD, SECONDS = range(4)
MINIMISE = np.array([False, False, True, True])
SOUND = [name for name in COMBINATIONS if name != "released"]
WITHOUT_UNITS = ["paper", "released", "gdpo"]
WITH_UNITS = ["scalarised", "budgeted"]

# Three right at 0.01, 0.05 and 0.09 dollars, one wrong.
CALLS = [1, 2, 0, 1]
DOLLARS = [0.01, 0.05, 0.09, 0.05]
ROWS = np.array([CALLS, [1, 1, 1, 0], DOLLARS, [0, 0, 0, 0]], dtype=float).T
RIGHT = np.array([True, True, True, False])

# Amounts of another group: 2 right, 2 wrong; dollars 1, 3, 5, 9 and seconds 10, 30, 10, 10.
MIXED = np.array([[0, 1, 1, 10], [2, 1, 3, 30], [0, 0, 5, 10], [4, 0, 9, 10]], dtype=float)
MIXED_RIGHT = np.array([True, True, False, False])
OF_TWO = np.sqrt(3) / 2  # of two pairs of equal values, one standard deviation from the mean
OF_THREE = 1.5  # of one against three equal values
AGAINST = -0.5

CLOSED_FORMS = [
    # name, features, correct, weights of (tool, outcome, dollars, seconds), rewards
    ("paper", ROWS, RIGHT, [0, 1, 1, 0], [2.0, 1.5, 1.0, 0.0]),
    ("paper", ROWS, RIGHT, [1, 0, 0, 0], [0.5, 1.0, 0.0, 0.0]),
    ("paper", ROWS, RIGHT, [0, 1, 0, 0], [1.0, 1.0, 1.0, 0.0]),
    ("paper", ROWS, RIGHT, [0, 0, 0, 1], [0.0, 0.0, 0.0, 0.0]),
    ("paper", MIXED, MIXED_RIGHT, [0.5, 1, 1, 1], [3.0, 2.0, 0.0, 0.0]),
    ("released", ROWS, RIGHT, [0, 1, 1, 0], [3.375, 3.875, 4.375, 0.0]),
    ("released", ROWS, RIGHT, [1, 0, 0, 0], [0.0, 1.0, -1.0, 0.0]),
    ("released", ROWS, RIGHT, [0, 1, 0, 0], [1.0, 1.0, 1.0, 0.0]),
    # seconds: (10 + 30) / 20 + 30 / 20 and (30 + 30) / 20 + 30 / 20
    ("released", MIXED, MIXED_RIGHT, [0, 0, 0, 1], [3.5, 4.5, 0.0, 0.0]),
    ("gdpo", MIXED, MIXED_RIGHT, [0, 1, 0, 0], [OF_TWO, OF_TWO, -OF_TWO, -OF_TWO]),
    # the wrong ones are held to cost 3, what the dearest right one does
    ("gdpo", MIXED, MIXED_RIGHT, [0, 0, 1, 0], [OF_THREE, AGAINST, AGAINST, AGAINST]),
    # and to have called the tool as seldom as any right one
    ("gdpo", MIXED, MIXED_RIGHT, [1, 0, 0, 0], [AGAINST, OF_THREE, AGAINST, AGAINST]),
    (
        "gdpo",
        MIXED,
        MIXED_RIGHT,
        [0, 1, 0.5, 0],
        [OF_TWO + 0.75, OF_TWO - 0.25, -OF_TWO - 0.25, -OF_TWO - 0.25],
    ),
    ("gdpo", MIXED, np.zeros(4, bool), [1, 0, 1, 1], [0.0, 0.0, 0.0, 0.0]),
    ("scalarised", MIXED, MIXED_RIGHT, [0, 1, 0.1, 0.01], [0.8, 0.4, -0.6, -1.0]),
    ("scalarised", MIXED, MIXED_RIGHT, [0.25, 1, 0, 0], [1.0, 1.5, 0.0, 1.0]),
    # a multiplier of 2 on a budget of 4 dollars
    ("budgeted", MIXED, MIXED_RIGHT, [0, 0, 2 / 4, 0], [0.5, -0.5, -2.5, -4.5]),
    ("budgeted", MIXED, MIXED_RIGHT, [1, 1, 0, 0], [1.0, 1.0, 0.0, 0.0]),
]


@pytest.mark.parametrize(("name", "features", "correct", "weights", "rewards"), CLOSED_FORMS)
def test_closed_forms(
    name: str, features: np.ndarray, correct: np.ndarray, weights: list[float], rewards: list[float]
) -> None:
    computed = group_rewards(features, np.array(weights), correct, MINIMISE, name)
    np.testing.assert_allclose(computed, rewards, atol=1e-12)


@dataclass(frozen=True)
class Group:
    features: np.ndarray
    preference: np.ndarray
    correct: np.ndarray

    def rewards(self, name: str) -> np.ndarray:
        return group_rewards(self.features, self.preference, self.correct, MINIMISE, name)


def amounts(g: int) -> st.SearchStrategy[np.ndarray]:
    """Whole numbers of 1/64, so that a difference is one and no rounding."""
    return arrays(np.float64, (g, 4), elements=st.integers(0, 2**12).map(lambda n: n / 64))


@st.composite
def groups(draw: st.DrawFn) -> Group:
    g = draw(st.integers(2, 9))
    features, correct = draw(amounts(g)), draw(arrays(np.bool_, g))
    features[:, OUTCOME] = correct
    preference = draw(arrays(np.float64, 4, elements=st.integers(0, 64).map(lambda n: n / 64)))
    return Group(features, preference, correct)


@pytest.mark.parametrize("name", SOUND)
@given(groups(), st.sampled_from([USD, SECONDS]), st.integers(1, 64))
def test_a_cheaper_episode_never_scores_below_an_identical_dearer_one(
    name: str, group: Group, column: int, more: int
) -> None:
    group.features[1], group.correct[1] = group.features[0], group.correct[0]
    group.features[1, column] += more
    group.preference[column] = max(group.preference[column], 1 / 64)
    cheap, dear = group.rewards(name)[:2]
    assert cheap >= dear
    if group.correct[0]:
        assert cheap > dear


@given(groups())
def test_as_released_a_cheaper_right_episode_scores_below_a_dearer_one(group: Group) -> None:
    group.features[1], group.correct[:2] = group.features[0], True
    group.features[1, USD] += 1
    group.preference[USD] = 1
    cheap, dear = group.rewards("released")[:2]
    assert cheap < dear


@pytest.mark.parametrize("name", ["paper", "scalarised", "budgeted"])
@given(groups())
def test_an_unused_tool_is_worth_nothing_and_never_less(name: str, group: Group) -> None:
    group.features[0, TOOL] = 0
    terms = group_terms(group.features, group.preference, group.correct, MINIMISE, name).terms_G_K
    assert terms[0, TOOL] == 0 and (terms[:, TOOL] >= 0).all()


@given(groups())
def test_under_gdpo_an_unused_tool_is_worth_no_less_than_to_anybody_else(group: Group) -> None:
    """Standardised amounts have a mean of 0, so less than the mean is less than 0."""
    group.features[0, TOOL] = 0
    terms = group_terms(group.features, group.preference, group.correct, MINIMISE, "gdpo")
    assert terms.terms_G_K[0, TOOL] >= terms.terms_G_K[:, TOOL].min()
    assume(group.correct[0])
    assert terms.terms_G_K[0, TOOL] == terms.terms_G_K[:, TOOL].min()


@given(groups())
def test_a_tool_that_nobody_used_is_worth_nothing_under_any_combination(group: Group) -> None:
    group.features[:, TOOL] = 0
    for name in COMBINATIONS:
        terms = group_terms(group.features, group.preference, group.correct, MINIMISE, name)
        np.testing.assert_array_equal(terms.terms_G_K[:, TOOL], 0)


@pytest.mark.parametrize("name", list(COMBINATIONS))
@given(groups())
def test_equal_episodes_have_equal_rewards(name: str, group: Group) -> None:
    group.features[:], group.correct[:] = group.features[0], group.correct[0]
    assert np.ptp(group.rewards(name)) == 0


@pytest.mark.parametrize("name", list(COMBINATIONS))
@given(groups(), st.randoms(use_true_random=False))
def test_permuting_the_group_permutes_the_rewards(
    name: str, group: Group, rng: random.Random
) -> None:
    order = list(range(len(group.correct)))
    rng.shuffle(order)
    there = Group(group.features[order], group.preference, group.correct[order])
    np.testing.assert_allclose(there.rewards(name), group.rewards(name)[order], atol=1e-9)


@pytest.mark.parametrize("name", WITHOUT_UNITS)
@given(groups(), st.sampled_from([1 / 1000, 100.0, 1e9]))
def test_units_do_not_matter_where_the_group_gives_the_scale(
    name: str, group: Group, unit: float
) -> None:
    in_other_units = group.features * np.array([1, 1, unit, 60])
    np.testing.assert_allclose(
        Group(in_other_units, group.preference, group.correct).rewards(name),
        group.rewards(name),
        atol=1e-9,
    )


@pytest.mark.parametrize("name", WITH_UNITS)
@given(groups())
def test_units_matter_where_weights_have_them(name: str, group: Group) -> None:
    group.features[0, USD], group.preference[USD] = 1, 1
    cents = Group(group.features * np.array([1, 1, 100, 1]), group.preference, group.correct)
    assert cents.rewards(name)[0] == pytest.approx(group.rewards(name)[0] - 99)


@given(groups())
def test_gdpo_never_puts_a_right_episode_below_a_wrong_one_and_sums_to_zero(group: Group) -> None:
    rewards = group.rewards("gdpo")
    assert abs(rewards.sum()) < 1e-9
    assume(group.correct.any() and not group.correct.all())
    assert rewards[group.correct].min() >= rewards[~group.correct].max() - 1e-9


@pytest.mark.parametrize("name", list(COMBINATIONS))
@given(groups())
def test_slopes_are_what_the_terms_rise_by_along_an_amount(name: str, group: Group) -> None:
    """Two right episodes that differ in one column differ by slope times the difference."""
    group.features[1], group.correct[:2] = group.features[0], True
    group.features[1, USD] += 3
    terms = group_terms(group.features, group.preference, group.correct, MINIMISE, name)
    rise = terms.terms_G_K[1, USD] - terms.terms_G_K[0, USD]
    assert rise == pytest.approx(3 * terms.slopes_G_K[0, USD], abs=1e-9)


@given(
    st.floats(0, 10),
    st.floats(0, 10),
    st.floats(0.01, 10),
    st.floats(0.001, 1),
)
def test_the_multiplier_rises_over_the_budget_and_falls_under_it_to_zero(
    multiplier: float, mean_usd: float, budget_usd: float, rate: float
) -> None:
    after = next_multiplier(multiplier, mean_usd, budget_usd, rate)
    assert after >= 0
    assert (after >= multiplier) if mean_usd >= budget_usd else (after <= multiplier)


def test_dual_ascent_settles_where_the_mean_is_the_budget() -> None:
    """A buyer that spends 4 / (1 + multiplier) dollars has a mean of 1 at a multiplier of 3."""
    multiplier = 0.0
    for _ in range(500):
        multiplier = next_multiplier(multiplier, 4 / (1 + multiplier), 1.0, rate=0.1)
    assert multiplier == pytest.approx(3, abs=1e-4)


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        next_multiplier(0.0, 1.0, 0.0, 0.1)
