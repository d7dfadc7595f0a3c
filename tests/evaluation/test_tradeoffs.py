"""The front, its hypervolume and the costs at equal accuracy, with intervals over tasks."""

from dataclasses import replace

import pytest

from orchestra_ray.evaluation.episode_log import EvalEpisode
from orchestra_ray.evaluation.tradeoffs import Tradeoffs, tradeoffs

ONE = EvalEpisode(0, "t/0", "t", True, 0, 1.0, 2, {}, {})
TASKS = 200


def played(right: float, price_usd: float) -> dict[int, EvalEpisode]:
    """Right on this share of the tasks, evenly spread, each at the same price."""
    return {
        n: replace(
            ONE,
            number=n,
            task_id=f"t/{n}",
            correct=int((n + 1) * right) > int(n * right),
            price_nanousd=round(price_usd * 1e9),
        )
        for n in range(TASKS)
    }


def of(**policies: tuple[float, float]) -> Tradeoffs:
    episodes = {name: played(*figures) for name, figures in policies.items()}
    return tradeoffs(episodes, range(TASKS), "after", bootstrap=200, seed=0)


FOUND = of(after=(0.8, 0.05), cheapest=(0.4, 0.01), strongest=(0.6, 0.1), oracle=(0.9, 0.02))


def test_a_bound_is_not_on_the_front() -> None:
    assert FOUND.front == ("cheapest", "after")


def test_the_hypervolume_is_a_share_of_the_box_up_to_the_dearest() -> None:
    # 0.4 from 1 cent and 0.8 from 5 cents, up to the 10 of `strongest`.
    assert FOUND.hypervolume == pytest.approx((0.4 * 0.04 + 0.8 * 0.05) / 0.1)
    low, high = FOUND.hypervolume_ci95
    assert low < FOUND.hypervolume < high


def test_equal_accuracy_costs_what_a_mixture_does() -> None:
    assert FOUND.equal_cost_usd == pytest.approx({"strongest": 0.03})
    low, high = FOUND.equal_cost_usd_ci95["strongest"]
    assert 0.01 < low < 0.03 < high <= 0.05


def test_what_is_seldom_reached_has_no_interval() -> None:
    found = of(after=(0.2, 0.05), cheapest=(0.1, 0.01), strongest=(0.9, 0.1))
    assert "strongest" not in found.equal_cost_usd
    assert "strongest" not in found.equal_cost_usd_ci95


def test_policies_are_resampled_together() -> None:
    """Two that are alike on every task are alike in every resample."""
    found = of(after=(0.5, 0.04), cheapest=(0.0, 0.0), twin=(0.5, 0.08))
    assert found.equal_cost_usd["twin"] == pytest.approx(0.04)
    assert found.equal_cost_usd_ci95["twin"] == pytest.approx((0.04, 0.04))


def test_where_nothing_costs_anything_there_is_no_box() -> None:
    found = of(after=(0.5, 0.0), random=(0.25, 0.0))
    assert (found.hypervolume, found.hypervolume_ci95) == (0.0, (0.0, 0.0))


def test_the_json_has_lists_for_intervals() -> None:
    told = FOUND.to_json()
    assert told["front"] == ["cheapest", "after"]
    assert told["hypervolume_ci95"] == list(FOUND.hypervolume_ci95)
    assert set(told["equal_cost_usd_ci95"]) == {"strongest"}


def test_the_json_is_read_back() -> None:
    assert Tradeoffs.from_json(FOUND.to_json()) == FOUND
