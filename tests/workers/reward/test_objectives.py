import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orchestra_ray.workers.reward.objectives import group_rewards

# columns: outcome, dollars, seconds
MINIMISE = np.array([False, True, True])


def test_the_papers_example_of_three_right_and_one_wrong() -> None:
    features = np.array([[1, 0.01, 0], [1, 0.05, 0], [1, 0.09, 0], [0, 0.05, 0]])
    rewards = group_rewards(
        features, np.array([1, 1, 0]), np.array([True, True, True, False]), MINIMISE
    )
    np.testing.assert_allclose(rewards, [2.0, 1.5, 1.0, 0.0])


def test_a_tool_preference_counts_calls_over_the_group() -> None:
    calls = np.array([[1.0], [2.0], [0.0], [1.0]])
    rewards = group_rewards(
        calls, np.array([1.0]), np.array([True, True, True, False]), np.array([False])
    )
    np.testing.assert_allclose(rewards, [0.5, 1.0, 0.0, 0.0])


def test_a_feature_on_which_the_group_agrees_is_zero() -> None:
    features = np.array([[1, 0.02, 3], [1, 0.02, 3]])
    rewards = group_rewards(features, np.ones(3), np.array([True, True]), MINIMISE)
    np.testing.assert_array_equal(rewards, [0.0, 0.0])


GROUPS = st.integers(2, 9).flatmap(
    lambda g: st.tuples(
        arrays(np.float64, (g, 3), elements=st.floats(0, 1e3, width=32)),
        arrays(np.float64, 3, elements=st.floats(0, 1, width=32)),
        arrays(np.bool_, g),
    )
)


@given(GROUPS)
def test_rewards_are_bounded_and_wrong_is_zero(group: tuple) -> None:
    features, preference, correct = group
    rewards = group_rewards(features, preference, correct, MINIMISE)
    assert (rewards >= 0).all() and (rewards <= preference.sum() + 1e-9).all()
    assert (rewards[~correct] == 0).all()


@given(GROUPS, st.randoms(use_true_random=False))
def test_permuting_the_group_permutes_the_rewards(group: tuple, random: object) -> None:
    features, preference, correct = group
    order = list(range(len(correct)))
    random.shuffle(order)  # type: ignore[attr-defined]
    there = group_rewards(features, preference, correct, MINIMISE)[order]
    here = group_rewards(features[order], preference, correct[order], MINIMISE)
    np.testing.assert_allclose(there, here)


@given(GROUPS)
def test_a_cheaper_episode_never_scores_below_an_identical_dearer_one(group: tuple) -> None:
    features, preference, correct = group
    features[1], correct[1] = features[0], correct[0]
    features[1, 1] += 1.0
    rewards = group_rewards(features, preference, correct, MINIMISE)
    assert rewards[0] >= rewards[1]


@given(GROUPS)
def test_units_do_not_matter(group: tuple) -> None:
    features, preference, correct = group
    scaled = features * np.array([1.0, 128.0, 1 / 64])
    np.testing.assert_allclose(
        group_rewards(features, preference, correct, MINIMISE),
        group_rewards(scaled, preference, correct, MINIMISE),
    )


def test_an_unknown_preset_is_refused() -> None:
    names = "nonsense.*paper, released, gdpo, scalarised, budgeted"
    with pytest.raises(ValueError, match=names):
        group_rewards(np.ones((2, 3)), np.ones(3), np.ones(2, bool), MINIMISE, preset="nonsense")


@pytest.mark.parametrize("preset", ["paper", "gdpo", "released"])
def test_rounding_of_a_sum_is_no_difference(preset: str) -> None:
    seconds = [0.1 + 0.2, 0.3, 0.3, 0.3]  # 0.30000000000000004 and 0.3
    features = np.array([[1.0, 0.0, s] for s in seconds])
    rewards = group_rewards(
        features, np.array([0.0, 0.0, 1.0]), np.ones(4, bool), np.array([False, True, True]), preset
    )
    assert np.ptp(rewards) == 0
