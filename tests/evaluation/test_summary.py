"""Means and their intervals."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.evaluation.summary import (
    EpisodeOutcome,
    FamilySummary,
    Summary,
    percentiles,
    summarise,
)

amounts = st.floats(-1e3, 1e3)
outcomes = st.builds(
    EpisodeOutcome,
    task_id=st.sampled_from(["a", "b", "c", "d", "e"]),
    correct=st.booleans(),
    cost_usd=amounts.map(abs),
    latency_s=amounts.map(abs),
    reward=amounts,
    turns=st.integers(1, 50),
)


def outcome(task_id: str, correct: bool, reward: float) -> EpisodeOutcome:
    return EpisodeOutcome(task_id, correct, cost_usd=0.25, latency_s=2.0, reward=reward, turns=3)


def noisy(tasks: int, seed: int, episodes: int = 1) -> list[EpisodeOutcome]:
    rng = np.random.default_rng(seed)
    return [
        outcome(f"task {task}", bool(rng.random() < 0.7), float(rng.normal(0.3, 1.0)))
        for task in range(tasks)
        for _ in range(episodes)
    ]


def test_means_are_over_episodes() -> None:
    given_three = [outcome("a", True, 1.0), outcome("a", True, 0.5), outcome("b", False, 0.0)]
    summary = summarise(given_three, bootstrap=50, seed=0)
    assert summary.accuracy == pytest.approx(2 / 3)
    assert (summary.reward, summary.cost_usd, summary.latency_s) == (0.5, 0.25, 2.0)
    assert summary.turns == 3.0


@given(st.lists(outcomes, min_size=1, max_size=30), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_episodes_changes_no_mean(
    given_ones: list[EpisodeOutcome], shuffler: random.Random
) -> None:
    shuffled = list(given_ones)
    shuffler.shuffle(shuffled)
    one, other = summarise(given_ones, 20, 0), summarise(shuffled, 20, 0)
    for name in ("accuracy", "cost_usd", "latency_s", "reward", "turns"):
        assert getattr(one, name) == getattr(other, name)
    assert one.reward_ci95 == pytest.approx(other.reward_ci95)


@given(st.lists(outcomes, min_size=1, max_size=30), st.integers(1, 50), st.integers(0, 2**32))
@settings(deadline=None)
def test_intervals_are_ordered_and_within_the_values(
    given_ones: list[EpisodeOutcome], bootstrap: int, seed: int
) -> None:
    summary = summarise(given_ones, bootstrap, seed)
    rewards = [one.reward for one in given_ones]
    low, high = summary.reward_ci95
    assert min(rewards) - 1e-6 <= low <= high <= max(rewards) + 1e-6
    assert 0.0 <= summary.accuracy_ci95[0] <= summary.accuracy_ci95[1] <= 1.0


@given(st.integers(200, 400), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_with_many_tasks_the_interval_holds_the_mean(tasks: int, seed: int) -> None:
    summary = summarise(noisy(tasks, seed), 500, seed)
    assert summary.reward_ci95[0] < summary.reward < summary.reward_ci95[1]
    assert summary.accuracy_ci95[0] < summary.accuracy < summary.accuracy_ci95[1]


def test_the_interval_has_the_width_that_theory_gives() -> None:
    rewards = [one.reward for one in noisy(2000, 3)]
    low, high = summarise(noisy(2000, 3), 4000, 0).reward_ci95
    expected = 2 * 1.96 * np.std(rewards) / np.sqrt(len(rewards))
    assert high - low == pytest.approx(expected, rel=0.05)


def test_tasks_are_resampled_and_not_episodes() -> None:
    """Eight equal episodes of a task say no more than one."""
    one_each = noisy(300, 5)
    eight_each = [episode for episode in one_each for _ in range(8)]
    assert summarise(eight_each, 500, 1).reward_ci95 == pytest.approx(
        summarise(one_each, 500, 1).reward_ci95
    )


def test_a_seed_decides_the_interval() -> None:
    assert summarise(noisy(50, 0), 100, 7) == summarise(noisy(50, 0), 100, 7)
    assert summarise(noisy(50, 0), 100, 7) != summarise(noisy(50, 0), 100, 8)


@pytest.mark.parametrize("count", [1, 40])
def test_where_all_agree_the_interval_has_no_width(count: int) -> None:
    summary = summarise([outcome(f"t{n}", True, 0.1) for n in range(count)], 100, 0)
    assert summary.accuracy_ci95 == (1.0, 1.0)
    assert summary.reward_ci95 == pytest.approx((0.1, 0.1), abs=1e-12)
    assert summary.reward == pytest.approx(0.1)


@pytest.mark.parametrize(("count", "bootstrap"), [(0, 100), (1, 0)])
def test_nothing_to_summarise_is_an_error(count: int, bootstrap: int) -> None:
    with pytest.raises(ValueError, match="needs both"):
        summarise([outcome("a", True, 1.0)] * count, bootstrap, 0)


def test_families_and_calls_are_told_where_outcomes_name_them() -> None:
    known = [
        replace(outcome("a", True, 1.0), family="sums", calls={"nova": 2}),
        replace(outcome("a", False, 1.0), family="sums"),
        replace(outcome("b", False, 0.0), family="bits", calls={"nova": 1, "calculator": 1}),
    ]
    summary = summarise(known, 50, 0)
    assert summary.by_family == {
        "bits": FamilySummary(0.0, (0.0, 0.0), 1), "sums": FamilySummary(0.5, (0.5, 0.5), 1),
    }  # fmt: skip
    assert summary.calls == {"calculator": pytest.approx(1 / 3), "nova": 1.0}
    assert Summary.from_json(json.loads(json.dumps(summary.to_json()))) == summary
    assert summarise(noisy(5, 0), 50, 0).by_family == {}


def test_a_family_s_interval_is_that_of_its_tasks_alone() -> None:
    members = [replace(one, family="sums") for one in noisy(40, 1)]
    others = [replace(one, task_id=f"x{one.task_id}", family="bits") for one in noisy(40, 2)]
    alone, together = summarise(members, 200, 3), summarise([*members, *others], 200, 3)
    assert together.by_family["sums"].accuracy_ci95 == alone.accuracy_ci95


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_percentiles_are_ordered_and_have_the_ends(values: list[float]) -> None:
    low, middle, high = percentiles(values, (0, 50, 100))
    assert (low, high) == (min(values), max(values)) and low <= middle <= high


def test_percentiles_lie_between_neighbours() -> None:
    assert percentiles([4.0, 1.0, 3.0, 2.0], (50, 95)) == pytest.approx([2.5, 3.85])
    assert percentiles([7.0], (50, 95)) == [7.0, 7.0]


def test_a_summary_from_before_the_optional_figures_reads() -> None:
    old = {
        "accuracy": 0.5, "accuracy_ci95": [0.4, 0.6], "cost_usd": 0.01, "latency_s": 2.0,
        "reward": 0.1, "reward_ci95": [0.0, 0.2], "turns": 1.0,
    }  # fmt: skip
    summary = Summary.from_json(old)
    assert summary.latency_p95_s is None and summary.by_family == {}
    assert summary.to_json() == old


def test_json_has_the_names_of_the_summary_file_and_reads_back() -> None:
    summary = summarise(noisy(20, 0), 100, 0)
    written = json.loads(json.dumps(summary.to_json()))
    assert list(written) == [
        "accuracy", "accuracy_ci95", "cost_usd", "latency_s", "reward", "reward_ci95", "turns",
        "cost_usd_ci95", "latency_s_ci95", "latency_p50_s", "latency_p50_s_ci95", "latency_p95_s",
        "latency_p95_s_ci95",
    ]  # fmt: skip
    assert Summary.from_json(written) == summary


@given(st.lists(outcomes, min_size=1, max_size=30), st.integers(1, 30), st.integers(0, 2**32))
@settings(deadline=None)
def test_intervals_of_percentiles_lie_within_the_values(
    given_ones: list[EpisodeOutcome], bootstrap: int, seed: int
) -> None:
    summary = summarise(given_ones, bootstrap, seed)
    seconds = [one.latency_s for one in given_ones]
    for ends in (summary.latency_p50_s_ci95, summary.latency_p95_s_ci95):
        assert ends is not None
        assert min(seconds) - 1e-6 <= ends[0] <= ends[1] <= max(seconds) + 1e-6


def test_the_interval_of_the_median_has_the_width_that_theory_gives() -> None:
    """Of a normal distribution: 1.2533 times that of the mean."""
    rng = np.random.default_rng(0)
    seconds = rng.normal(50.0, 5.0, 2000)
    episodes = [replace(outcome(f"t{n}", True, 0.0), latency_s=s) for n, s in enumerate(seconds)]
    ends = summarise(episodes, 2000, 0).latency_p50_s_ci95
    assert ends is not None
    expected = 2 * 1.96 * 1.2533 * 5.0 / np.sqrt(len(seconds))
    assert ends[1] - ends[0] == pytest.approx(expected, rel=0.15)


def test_the_percentiles_of_a_task_played_often_are_resampled_with_it() -> None:
    one_each = [replace(outcome(f"t{n}", True, 0.0), latency_s=float(n)) for n in range(100)]
    eight_each = [episode for episode in one_each for _ in range(8)]
    one, eight = (summarise(some, 300, 1) for some in (one_each, eight_each))
    assert eight.latency_p50_s_ci95 == pytest.approx(one.latency_p50_s_ci95, abs=1.0)


def test_calls_have_intervals() -> None:
    episodes = [
        replace(outcome(f"t{n}", True, 0.0), calls={"a": 1} if n % 2 else {"a": 1, "b": 2})
        for n in range(200)
    ]
    summary = summarise(episodes, 500, 0)
    assert summary.calls == {"a": 1.0, "b": 1.0}
    assert summary.calls_ci95["a"] == (1.0, 1.0)
    low, high = summary.calls_ci95["b"]
    assert 0.7 < low < 1.0 < high < 1.3


def test_the_share_of_failed_calls_is_over_all_calls_and_comes_back_from_json() -> None:
    outcomes: list[dict[str, int]] = [{"ok": 5}, {"timeout": 1, "unavailable": 2}, {}]
    made = [
        EpisodeOutcome(str(n), True, 0.0, 1.0, 0.0, 1, outcomes=counts)
        for n, counts in enumerate(outcomes)
    ]
    found = summarise(made, 10, 0)
    assert found.failed == {"timeout": 1 / 8, "unavailable": 2 / 8}
    assert found.failed_share == pytest.approx(3 / 8) and found.failed_mostly == "timeout"
    assert Summary.from_json(found.to_json()) == found
    sound = summarise(made[:1], 10, 0)
    assert (sound.failed, sound.failed_share, sound.failed_mostly) == ({}, 0.0, "")
    assert "failed" not in sound.to_json()
    rest = summarise([EpisodeOutcome("t", False, 0, 0, 0, 1, outcomes={"unavailable": 1})], 10, 0)
    assert rest.failed_share == 1.0 and rest.failed_mostly == "unavailable"
