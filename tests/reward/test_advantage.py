import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orchestra_ray.reward.advantage import group_advantages


def test_closed_form() -> None:
    advantages, keep = group_advantages(np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(advantages, [-1.0, 0.0, 1.0])
    assert keep


def test_a_homogeneous_group_is_dropped_and_pushes_nowhere() -> None:
    advantages, keep = group_advantages(np.array([0.5, 0.55, 0.5, 0.5]))
    assert not keep
    np.testing.assert_array_equal(advantages, np.zeros(4))


@given(arrays(np.float64, st.integers(2, 16), elements=st.floats(0, 3, width=32)))
def test_advantages_have_no_mean(rewards: np.ndarray) -> None:
    advantages, keep = group_advantages(rewards)
    assert abs(advantages.mean()) < 1e-6
    assert keep == (rewards.std(ddof=1) >= 0.1)


def test_one_reward_is_no_group() -> None:
    with pytest.raises(ValueError, match="two or more"):
        group_advantages(np.array([1.0]))
