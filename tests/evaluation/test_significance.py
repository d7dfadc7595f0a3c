"""Sentences state the differences that the figures support, and no others."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.evaluation.significance import RANGES, compare, compare_all, in_order, sentences
from orchestra_ray.evaluation.summary import Summary


def policy(reward: float, half: float = 0.05) -> Summary:
    return Summary(0.5, (0.4, 0.6), 0.001, 2.0, reward, (reward - half, reward + half), 2.0)


@pytest.mark.parametrize(
    ("after", "other", "word"),
    [
        (policy(0.7), policy(0.2), "above"),
        (policy(0.2), policy(0.7), "below"),
        (policy(0.50), policy(0.53), "no difference shown"),
        (policy(0.5), policy(0.58, half=0.2), "no difference shown"),  # outside one only
        (policy(0.5), policy(0.58), "below"),  # the intervals overlap, the means lie outside
        (policy(0.5), policy(0.5), "no difference shown"),
        (policy(math.nan), policy(0.5), "no difference shown"),
    ],
)
def test_a_difference_needs_both_means_outside_the_other_interval(
    after: Summary, other: Summary, word: str
) -> None:
    assert compare(after, "other", other).word == word


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1))
def test_comparing_the_other_way_round_says_the_opposite(
    a: float, b: float, half_a: float, half_b: float
) -> None:
    one = compare(policy(a, half_a), "b", policy(b, half_b))
    other = compare(policy(b, half_b), "a", policy(a, half_a))
    assert one.outside_both == other.outside_both
    assert one.difference == -other.difference


def verdict(before: float, after: float, **baselines: float) -> str:
    rewards = {"before": before, "after": after} | baselines
    return sentences({name: policy(reward) for name, reward in rewards.items()})


def test_a_gain_is_told_with_its_size() -> None:
    assert verdict(0.2, 0.7) == (
        "After training the reward is 0.700, 0.500 above before (0.200),"
        " outside both 95% intervals."
    )


def test_a_loss_is_told_as_one() -> None:
    assert "0.500 below before (0.700), outside both" in verdict(0.7, 0.2)


def test_what_the_intervals_do_not_show_is_not_claimed() -> None:
    assert verdict(0.5, 0.51) == (
        "The reward is 0.500 before training and 0.510 after; the 95% intervals show no difference."
    )


def test_baselines_stand_on_the_side_where_they_are() -> None:
    said = verdict(0.2, 0.7, random=0.1, cheapest=0.3, strongest=0.71, oracle=0.9)
    assert said.endswith(
        "It lies above random and cheapest and below oracle, outside both 95% intervals;"
        " it is not shown to differ from strongest."
    )
    assert verdict(0.2, 0.7, random=0.69).endswith(" It is not shown to differ from random.")


def test_without_training_the_policy_is_measured_against_the_baselines() -> None:
    rows = {"random": policy(0.1), "policy": policy(0.5), "oracle": policy(0.52)}
    assert sentences(rows) == (
        "The reward is 0.500. It lies above random, outside both 95% intervals;"
        " it is not shown to differ from oracle."
    )
    assert sentences({"policy": policy(0.5)}) == "The reward is 0.500."
    assert list(compare_all(rows)) == ["random", "oracle"]


def test_what_was_measured_comes_before_the_baselines_in_their_own_order() -> None:
    names = ["before", "random", "oracle", "after", "cheapest"]
    rows = {name: policy(0.5) for name in names}
    assert list(in_order(rows)) == ["before", "after", "random", "oracle", "cheapest"]


def test_what_stands_beside_the_means_is_named() -> None:
    rows = {"policy": policy(0.7), "random": policy(0.1)}
    assert sentences(rows, RANGES).endswith("above random, outside both ranges over seeds.")
