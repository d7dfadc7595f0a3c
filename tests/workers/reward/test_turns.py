"""Turn-level credit: what a turn is charged, and where it is the episode's own advantage."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orchestra_ray.workers.reward.advantage import ESTIMATORS, group_statistics
from orchestra_ray.workers.reward.combinations import COMBINATIONS
from orchestra_ray.workers.reward.objectives import group_terms
from orchestra_ray.workers.reward.turns import turn_returns

MINIMISE = np.array([False, True, True])
PREFERENCE = np.array([1.0, 0.5, 0.25])
Group = tuple[list[np.ndarray], np.ndarray]  # spent_G, each [turns, 2], and right_G
CHARGING = ["scalarised", "budgeted"]  # with weights that no cost changes


def returns(
    spent_G: list[np.ndarray], right_G: np.ndarray, name: str
) -> tuple[np.ndarray, list[np.ndarray]]:
    """(rewards_G, returns by episode) of a group that spent so much by turn."""
    totals = np.array([spent.sum(axis=0) for spent in spent_G])
    features = np.column_stack([right_G, totals])
    terms = group_terms(features, PREFERENCE, right_G, MINIMISE, name)
    return terms.rewards_G, turn_returns(terms.rewards_G, terms.slopes_G_K[:, 1:], spent_G)


def spent_by_turn(turns: int) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, (turns, 2), elements=st.integers(0, 256).map(lambda n: n / 64))


@st.composite
def groups(draw: st.DrawFn, least: int = 1, most: int = 4) -> Group:
    lengths = draw(st.lists(st.integers(least, most), min_size=2, max_size=6))
    right = draw(arrays(np.bool_, len(lengths)))
    return [draw(spent_by_turn(length)) for length in lengths], right


def test_a_worked_example() -> None:
    """Dollars by turn: 1 then 3, and 2 then nothing more; both right; a dollar is worth 0.5."""
    spent = [np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[2.0, 0.0], [0.0, 0.0]])]
    rewards, by_turn = returns(spent, np.array([True, True]), "scalarised")
    np.testing.assert_allclose(rewards, [1 - 2, 1 - 1])
    # Before the second turn 1 and 2 were spent: half a dollar from their mean of 1.5.
    np.testing.assert_allclose(by_turn[0], [-1.0, -1.0 - 0.25])
    np.testing.assert_allclose(by_turn[1], [0.0, 0.0 + 0.25])


def test_going_on_at_a_price_is_charged_to_the_turn_that_went_on() -> None:
    """Both spent 1 in the first turn; one went on and spent 4 more, the other had ended."""
    spent = [np.array([[1.0, 0.0], [4.0, 0.0]]), np.array([[1.0, 0.0]])]
    rewards, (long, short) = returns(spent, np.array([True, True]), "scalarised")
    assert long[1] == rewards[0] < rewards.mean() < short[0] == rewards[1]


@given(groups(most=1), st.sampled_from(list(COMBINATIONS)))
def test_with_one_turn_it_is_the_episodes_reward(group: Group, name: str) -> None:
    rewards, by_turn = returns(*group, name)
    np.testing.assert_array_equal(np.concatenate(by_turn), rewards)


@given(groups(), st.sampled_from(list(COMBINATIONS)))
def test_the_first_turn_always_has_the_episodes_reward(group: Group, name: str) -> None:
    rewards, by_turn = returns(*group, name)
    np.testing.assert_array_equal([row[0] for row in by_turn], rewards)


@given(
    spent_by_turn(3),
    arrays(np.bool_, 4),
    st.sampled_from(list(COMBINATIONS)),
    st.sampled_from(list(ESTIMATORS)),
)
def test_with_equal_costs_every_turn_has_the_episodes_advantage(
    spent: np.ndarray, right: np.ndarray, name: str, estimator: str
) -> None:
    rewards, by_turn = returns([spent] * 4, right, name)
    statistics = group_statistics(rewards, estimator)
    for reward, row in zip(rewards, by_turn, strict=True):
        np.testing.assert_allclose(
            statistics.advantages(row), np.full(3, statistics.advantages(reward)), atol=1e-9
        )


@given(groups(least=3, most=3), st.sampled_from(list(COMBINATIONS)))
def test_the_groups_mean_serves_every_turn(group: Group, name: str) -> None:
    rewards, by_turn = returns(*group, name)
    np.testing.assert_allclose(
        np.mean(by_turn, axis=0), np.full(3, rewards.mean()), rtol=1e-9, atol=1e-9
    )


@given(groups(least=3, most=3), st.sampled_from(CHARGING), st.integers(0, 2), st.integers(0, 1))
def test_a_price_falls_on_its_turn_and_those_before_and_never_on_those_after(
    group: tuple, name: str, turn: int, column: int
) -> None:
    spent, right = group
    dearer = [spent[0].copy(), *spent[1:]]
    dearer[0][turn, column] += 1.0
    before, after = (
        by_turn[0] - rewards.mean()
        for rewards, by_turn in (returns(spent, right, name), returns(dearer, right, name))
    )
    price = PREFERENCE[1 + column] * (1 - 1 / len(spent))  # the mean bears the rest
    charged = np.where(np.arange(3) <= turn, price, 0.0)
    np.testing.assert_allclose(before - after, charged, atol=1e-9)


@given(groups())
def test_a_wrong_episode_that_pays_nothing_has_its_reward_at_every_turn(group: Group) -> None:
    _, by_turn = returns(*group, "paper")
    for right, row in zip(group[1], by_turn, strict=True):
        assert right or not row.any()
