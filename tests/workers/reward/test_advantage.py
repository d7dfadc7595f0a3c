import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orchestra_ray.workers.reward.advantage import ESTIMATORS, batch_advantages, group_advantages

REWARDS = np.array([0.0, 1.0, 2.0, 5.0])  # mean 2, sample deviation sqrt(14 / 3)
STD = np.sqrt(14 / 3)
CENTRED = np.array([-2.0, -1.0, 0.0, 3.0])
CLOSED_FORMS = {
    "paper": CENTRED / STD,
    "released": CENTRED / (STD + 1e-6) + np.array([0, 0, 0, 0.1]),  # 3 / 2.16 is over 1
    "grpo": CENTRED / (STD + 1e-6),
    "dr_grpo": CENTRED,
    "rloo": REWARDS - np.array([8 / 3, 7 / 3, 6 / 3, 3 / 3]),
    "reinforce_pp": CENTRED,
    "gdpo": REWARDS,
}
# Of a sample deviation of 0.05.
CLOSE = np.array([0.5, 0.5, 0.5, 0.6])
KEEP_CLOSE = {name: name not in ("paper", "released") for name in ESTIMATORS}

WHITENED = ["reinforce_pp", "gdpo"]
OTHERS = [name for name in ESTIMATORS if name not in WHITENED]


def test_closed_form() -> None:
    advantages, keep = group_advantages(np.array([0.0, 1.0, 2.0]))
    np.testing.assert_allclose(advantages, [-1.0, 0.0, 1.0])
    assert keep


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_closed_forms_of_all_estimators(name: str) -> None:
    advantages, keep = group_advantages(REWARDS, name)
    np.testing.assert_allclose(advantages, CLOSED_FORMS[name], atol=1e-12)
    assert keep


def test_a_homogeneous_group_is_dropped_and_pushes_nowhere() -> None:
    advantages, keep = group_advantages(np.array([0.5, 0.55, 0.5, 0.5]))
    assert not keep
    np.testing.assert_array_equal(advantages, np.zeros(4))


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_a_close_group_teaches_where_the_estimator_has_no_filter(name: str) -> None:
    advantages, keep = group_advantages(CLOSE, name)
    assert keep == KEEP_CLOSE[name] == advantages.any()


def test_released_asks_for_more_than_the_bound_and_the_paper_for_the_bound() -> None:
    rewards = np.array([-1.0, 0.0, 1.0])  # a sample deviation of 1, exactly
    for name, keep in (("paper", True), ("released", False)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("orchestra_ray.workers.reward.advantage.MIN_STD", 1.0)
            assert group_advantages(rewards, name)[1] is keep


def test_released_clips_before_it_boosts() -> None:
    rewards = np.zeros(16)
    rewards[0] = 1.0  # 3.75 standard deviations from the mean
    advantages, _ = group_advantages(rewards, "released")
    assert advantages[0] == pytest.approx(3.1)


@given(
    st.sampled_from(list(ESTIMATORS)),
    st.integers(2, 16),
    st.floats(-1e3, 1e3, width=32),
)
def test_equal_rewards_push_nowhere(name: str, size: int, reward: float) -> None:
    advantages, keep = group_advantages(np.full(size, reward), name)
    assert not keep
    np.testing.assert_array_equal(advantages, np.zeros(size))


@given(arrays(np.float64, st.integers(2, 16), elements=st.floats(0, 3, width=32)))
def test_advantages_have_no_mean(rewards: np.ndarray) -> None:
    advantages, keep = group_advantages(rewards)
    assert abs(advantages.mean()) < 1e-6
    assert keep == (rewards.std(ddof=1) >= 0.1)


@given(
    st.sampled_from(list(ESTIMATORS)),
    arrays(np.float64, st.integers(2, 16), elements=st.integers(0, 64).map(lambda n: n / 16)),
    st.data(),
)
def test_permuting_the_group_permutes_the_advantages(
    name: str, rewards: np.ndarray, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(rewards.size)))
    there, kept = group_advantages(rewards[order], name)
    here, keep = group_advantages(rewards, name)
    np.testing.assert_allclose(there, here[order], atol=1e-9)
    assert kept == keep


@given(
    st.sampled_from(list(ESTIMATORS)),
    arrays(np.float64, st.integers(2, 16), elements=st.floats(0, 3, width=32)),
    st.floats(0.1, 2),
)
def test_a_clip_bounds_the_advantages(name: str, rewards: np.ndarray, clip: float) -> None:
    advantages, _ = group_advantages(rewards, name, clip)
    assert np.abs(batch_advantages(advantages, name, clip)).max() <= clip


def test_a_clip_comes_after_the_batch_where_the_batch_sets_the_scale() -> None:
    advantages, _ = group_advantages(np.array([0.0, 100.0]), "reinforce_pp", clip=1.0)
    np.testing.assert_allclose(advantages, [-50, 50])
    np.testing.assert_allclose(
        batch_advantages(advantages, "reinforce_pp", clip=0.5), [-0.5, 0.5], atol=1e-6
    )


@pytest.mark.parametrize("name", WHITENED)
@given(advantages=arrays(np.float64, st.integers(2, 30), elements=st.integers(-50, 50).map(float)))
def test_a_whitened_batch_has_mean_0_and_deviation_1(name: str, advantages: np.ndarray) -> None:
    whitened = batch_advantages(advantages, name)
    assert abs(whitened.mean()) < 1e-9
    if np.ptp(advantages):
        assert whitened.std(ddof=1) == pytest.approx(1, abs=1e-4)
    else:
        assert not whitened.any()


@pytest.mark.parametrize("name", WHITENED)
def test_whitening_over_tokens_is_whitening_of_every_token(name: str) -> None:
    advantages, tokens = np.array([1.0, -2.0, 0.5]), np.array([3, 1, 4])
    by_token = batch_advantages(np.repeat(advantages, tokens), name)
    weighted = batch_advantages(advantages, name, tokens_N=tokens)
    np.testing.assert_allclose(np.repeat(weighted, tokens), by_token)


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_estimators_leave_the_batch_as_it_is(name: str) -> None:
    advantages = np.array([1.0, 7.0, -3.0])
    np.testing.assert_array_equal(batch_advantages(advantages, name), advantages)


@pytest.mark.parametrize("name", WHITENED)
def test_an_empty_batch_and_one_of_one_push_nowhere(name: str) -> None:
    assert batch_advantages(np.zeros(0), name).size == 0
    np.testing.assert_array_equal(batch_advantages(np.array([2.0]), name), [0.0])


def test_one_reward_is_no_group() -> None:
    with pytest.raises(ValueError, match="two or more"):
        group_advantages(np.array([1.0]))


@pytest.mark.parametrize("call", [group_advantages, batch_advantages])
def test_an_unknown_preset_is_refused_with_the_names_that_are_known(call: object) -> None:
    with pytest.raises(ValueError, match="nonsense.*paper, released, grpo, dr_grpo, rloo"):
        call(np.array([0.0, 1.0]), "nonsense")  # type: ignore[operator]
