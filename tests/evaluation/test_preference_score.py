"""Eq. 5 and 6 against closed forms, and their properties on any episodes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from orchestra_ray.core.money import nanousd
from orchestra_ray.core.records import Preference
from orchestra_ray.evaluation.preference_score import feature_row, preference_score, weight_row

# columns: calls of search, calls of nova, outcome, cents, seconds


@pytest.mark.parametrize(
    ("features", "baseline", "preference", "correct", "score"),
    [
        # a half of the start's cost, with all the weight on cost
        ([0, 0, 1, 5, 9], [0, 0, 1, 10, 9], [0, 0, 0, 1, 0], True, 2.0),
        # three times as slow
        ([0, 0, 1, 5, 30], [0, 0, 1, 5, 10], [0, 0, 0, 0, 1], True, 1 / 3),
        # four searches where the start made two, and nova, of no weight, five times
        ([4, 5, 1, 0, 0], [2, 1, 1, 0, 0], [1, 0, 0, 0, 0], True, 2.0),
        # the start searched never: the floor of one call
        ([4, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0.5, 0, 0, 0, 0], True, 2.0),
        # right where the start was wrong counts as where it was right
        ([0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0], True, 1.0),
        ([0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [0, 0, 1, 0, 0], True, 1.0),
        # below a cent the floor takes over: 8 cents over 1, not over 0.2
        ([0, 0, 1, 0.2, 0], [0, 0, 1, 8, 0], [0, 0, 0, 1, 0], True, 8.0),
        # all together
        ([2, 1, 1, 4, 5], [1, 2, 1, 2, 20], [1, 0.5, 0.6, 0.4, 0.1], True, 2 + 0.25 + 0.6 + 0.6),
        # wrong, however cheap
        ([9, 9, 0, 0, 0], [1, 1, 1, 9, 9], [1, 1, 1, 1, 1], False, 0.0),
    ],
)
def test_closed_forms(
    features: list, baseline: list, preference: list, correct: bool, score: float
) -> None:
    found = preference_score(
        np.array([features]), np.array([baseline]), np.array([preference]), np.array([correct])
    )
    assert found.scores_N.dtype == np.float64
    assert found.sum == found.mean == pytest.approx(score, rel=1e-12)


def test_the_start_against_itself_gets_the_weights_of_what_it_used() -> None:
    used = np.array([[2.0, 0.0, 1.0, 3.0, 40.0]])
    weights = np.array([[0.5, 1.0, 0.6, 0.3, 0.2]])
    assert preference_score(used, used, weights, np.array([True])).sum == pytest.approx(1.6)


def test_the_unit_decides_where_amounts_are_small() -> None:
    """The same episodes, in cents and in dollars: why the unit is fixed."""
    cents, start = np.array([[1.0, 2.0, 0.0]]), np.array([[1.0, 50.0, 0.0]])
    weights, right = np.array([[0.0, 1.0, 0.0]]), np.array([True])
    assert preference_score(cents, start, weights, right).sum == 25.0
    assert preference_score(cents / 100, start / 100, weights, right).sum == 0.5


def test_rows_come_from_the_calls_and_the_preference() -> None:
    names = ["search", "nova"]
    features = feature_row(names, {"nova": 2}, True, nanousd("0.03"), 12.5)
    np.testing.assert_allclose(features, [0, 2, 1, 3, 12.5])
    preference = Preference("a", "b", 0.6, 0.3, 0.0, {"search": 1.0, "absent": 1.0})
    np.testing.assert_allclose(weight_row(names, preference), [1.0, 0.0, 0.6, 0.3, 0.0])


AMOUNT = st.floats(0, 1e4, width=32)
WEIGHT = st.floats(0, 1, width=32)
EPISODES = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, (n, 5), elements=AMOUNT),
        arrays(np.float64, (n, 5), elements=AMOUNT),
        arrays(np.float64, (n, 5), elements=WEIGHT),
        arrays(np.bool_, n),
    )
)
Episodes = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@given(EPISODES)
def test_wrong_is_zero_and_nothing_is_negative(episodes: Episodes) -> None:
    scores = preference_score(*episodes).scores_N
    assert (scores >= 0).all() and (scores[~episodes[3]] == 0).all()


@given(EPISODES, st.sampled_from([3, 4]), st.floats(0, 1))
def test_cheaper_or_faster_never_scores_lower(
    episodes: Episodes, column: int, share: float
) -> None:
    features, baseline, weights, correct = episodes
    less = features.copy()
    less[:, column] *= share
    before = preference_score(features, baseline, weights, correct).scores_N
    assert (preference_score(less, baseline, weights, correct).scores_N >= before).all()


@given(EPISODES, st.sampled_from([0, 1]), st.integers(1, 5))
def test_more_calls_of_a_preferred_tool_never_score_lower(
    episodes: Episodes, column: int, calls: int
) -> None:
    features, baseline, weights, correct = episodes
    more = features.copy()
    more[:, column] += calls
    before = preference_score(features, baseline, weights, correct).scores_N
    after = preference_score(more, baseline, weights, correct).scores_N
    assert (after >= before).all()
    no_weight = weights[:, column] == 0
    np.testing.assert_array_equal(after[no_weight], before[no_weight])


@given(EPISODES)
def test_sum_and_mean_are_of_the_same_scores_in_any_order(episodes: Episodes) -> None:
    there, back = preference_score(*episodes), preference_score(*(e[::-1] for e in episodes))
    np.testing.assert_array_equal(there.scores_N[::-1], back.scores_N)
    assert there.sum == pytest.approx(there.mean * len(episodes[3]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: np.zeros((1, 2))}, "needs \\(N, tools \\+ 3\\)"),
        ({1: np.zeros((2, 5))}, "baseline of shape"),
        ({3: np.ones(2, dtype=bool)}, "correct of shape"),
        ({0: np.array([[0, 0, 1, -1.0, 0]])}, "features hold an amount"),
        ({1: np.array([[0, 0, 1, np.nan, 0]])}, "baseline hold an amount"),
        ({2: np.full((1, 5), 1.5)}, "outside \\[0, 1\\]"),
    ],
)
def test_what_cannot_be_scored_is_told(change: dict[int, np.ndarray], message: str) -> None:
    given_ = [np.zeros((1, 5)), np.zeros((1, 5)), np.zeros((1, 5)), np.ones(1, dtype=bool)]
    for place, value in change.items():
        given_[place] = value
    with pytest.raises(ValueError, match=message):
        preference_score(*given_)
