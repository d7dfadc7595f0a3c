"""The front, its area, and what an accuracy costs, against closed forms and properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.evaluation.pareto import (
    Tradeoff,
    cost_at_accuracy,
    equal_cost,
    hypervolume,
    pareto_front,
)

amounts = st.integers(0, 20).map(float)
points = st.lists(st.builds(Tradeoff, amounts, amounts), max_size=12)
CHEAP, MIDDLE, DEAR = Tradeoff(1.0, 20.0), Tradeoff(3.0, 60.0), Tradeoff(9.0, 80.0)
WORSE = Tradeoff(4.0, 50.0)
REFERENCE = Tradeoff(21.0, -1.0)


def test_the_front_goes_from_the_cheapest_to_the_dearest_without_the_dominated() -> None:
    assert pareto_front([WORSE, DEAR, CHEAP, MIDDLE]) == [2, 3, 1]
    assert pareto_front([]) == []


def test_of_equal_cost_the_more_accurate_is_on_the_front_and_equals_both() -> None:
    assert pareto_front([Tradeoff(1.0, 5.0), Tradeoff(1.0, 6.0)]) == [1]
    assert pareto_front([MIDDLE, MIDDLE, WORSE]) == [0, 1]


@given(points)
def test_everything_off_the_front_is_dominated_by_something_on_it(given_ones: list) -> None:
    front = pareto_front(given_ones)
    on_it = [given_ones[i] for i in front]
    for i, point in enumerate(given_ones):
        assert any(one.dominates(point) for one in on_it) == (i not in front)


def test_the_hypervolume_is_the_area_under_the_stairs() -> None:
    assert hypervolume([MIDDLE], Tradeoff(10.0, 0.0)) == 7.0 * 60.0
    stairs = 9.0 * 20.0 + 7.0 * 40.0 + 1.0 * 20.0
    assert hypervolume([DEAR, WORSE, CHEAP, MIDDLE], Tradeoff(10.0, 0.0)) == stairs
    assert hypervolume([CHEAP], Tradeoff(1.0, 0.0)) == hypervolume([], REFERENCE) == 0.0
    assert hypervolume([CHEAP], Tradeoff(10.0, 20.0)) == 0.0


@given(points)
def test_the_hypervolume_counts_the_cells_that_are_dominated(given_ones: list) -> None:
    cells = sum(
        any(one.cost <= x and one.accuracy >= y for one in given_ones)
        for x in range(21)
        for y in range(21)
    )
    assert hypervolume(given_ones, REFERENCE) == cells


@given(points, points)
def test_more_points_never_have_less_hypervolume(some: list, more: list) -> None:
    assert hypervolume([*some, *more], REFERENCE) >= hypervolume(some, REFERENCE)


@pytest.mark.parametrize(
    ("accuracy", "cost"),
    [(10.0, 1.0), (20.0, 1.0), (40.0, 2.0), (60.0, 3.0), (70.0, 6.0), (80.0, 9.0), (80.1, None)],
)
def test_an_accuracy_between_two_policies_costs_their_mixture(accuracy, cost) -> None:
    assert cost_at_accuracy([DEAR, WORSE, CHEAP, MIDDLE], accuracy) == cost


def test_a_mixture_may_undercut_a_policy_on_the_front() -> None:
    bulge = Tradeoff(8.0, 50.0)
    assert cost_at_accuracy([CHEAP, DEAR, bulge], 50.0) == pytest.approx(5.0)


@given(points, points, amounts, amounts)
def test_cost_at_accuracy_is_monotone_in_both(some, more, one: float, other: float) -> None:
    low, high = (cost_at_accuracy(some, accuracy) for accuracy in sorted((one, other)))
    wider = cost_at_accuracy([*some, *more], one)
    narrow = cost_at_accuracy(some, one)
    if high is not None:
        assert low is not None and low <= high + 1e-9
    if narrow is not None:
        assert wider is not None and wider <= narrow


@given(points, amounts)
def test_no_cost_at_accuracy_exceeds_the_cheapest_that_reaches_it(some, accuracy: float) -> None:
    enough = [one.cost for one in some if one.accuracy >= accuracy]
    found = cost_at_accuracy(some, accuracy)
    assert (found is None) == (not enough)
    assert found is None or min(one.cost for one in some) <= found <= min(enough)


def test_the_cost_at_equal_accuracy_mixes_the_policy_with_the_cheapest() -> None:
    points = {
        "after": Tradeoff(0.05, 0.8),
        "cheapest": Tradeoff(0.01, 0.4),
        "strongest": Tradeoff(0.1, 0.6),
        "oracle": Tradeoff(0.1, 0.9),
        "before": Tradeoff(0.04, 0.3),
    }
    costs = {name: equal_cost(points, "after", name) for name in points if name != "after"}
    assert costs.pop("strongest") == pytest.approx(0.03)
    assert costs == {"cheapest": None, "oracle": None, "before": None}


def test_a_policy_that_is_itself_the_cheapest_is_not_mixed() -> None:
    points = {"policy": Tradeoff(0.01, 0.5), "random": Tradeoff(0.02, 0.5)}
    assert equal_cost(points, "policy", "random") == 0.01
