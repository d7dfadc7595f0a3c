"""The spend budget against random histories: no limit is ever exceeded."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.config.schema import SpendConfig
from orchestra_ray.core.records import Caller, Reservation
from orchestra_ray.spend.budget import MEASUREMENT, SpendBudget, SpendLimits, limits_of


def caller(step: int = 1, episode: str = "e") -> Caller:
    return Caller(step, "g", episode, 0)


def test_what_was_reserved_and_not_spent_is_free_again() -> None:
    budget = SpendBudget(SpendLimits(run_nanousd=10))
    assert budget.reserve(Reservation("a", caller(), 10)) is None
    assert budget.reserve(Reservation("b", caller(), 1)) == "budget exhausted: $1e-08 for the run"
    assert budget.run_refused
    budget.settle("a", 4)
    assert budget.reserve(Reservation("b", caller(), 6)) is None
    assert budget.committed_nanousd == 10


@pytest.mark.parametrize(
    ("limits", "second", "scope"),
    [
        (SpendLimits(call_nanousd=5), Reservation("b#0.1", caller(2, "f"), 6), "call"),
        (SpendLimits(call_nanousd=5), Reservation("a#0.2", caller(), 1), "call"),
        (SpendLimits(call_nanousd=5), Reservation("a#1.1", caller(), 1), "call"),
        (SpendLimits(episode_nanousd=5), Reservation("b", caller(), 1), "episode"),
        (SpendLimits(episode_calls=1), Reservation("b", caller(), 0), "episode"),
        (SpendLimits(step_nanousd=5), Reservation("b", caller(1, "f"), 1), "step"),
        (SpendLimits(step_calls=1), Reservation("b", caller(1, "f"), 0), "step"),
        (SpendLimits(run_nanousd=5), Reservation("b", caller(2, "f"), 1), "run"),
        (SpendLimits(run_calls=1), Reservation("b", caller(2, "f"), 0), "run"),
    ],
)
def test_each_limit_refuses_in_its_own_words(
    limits: SpendLimits, second: Reservation, scope: str
) -> None:
    budget = SpendBudget(limits)
    assert budget.reserve(Reservation("a#0.1", caller(), 5)) is None
    refusal = budget.reserve(second)
    assert refusal is not None and scope in refusal
    assert budget.run_refused == (scope == "run")
    assert budget.committed_nanousd == 5


def test_a_key_is_granted_once_and_settled_once() -> None:
    budget = SpendBudget(SpendLimits())
    for _ in range(2):
        assert budget.reserve(Reservation("a", caller(), 5)) is None
    assert budget.committed_nanousd == 5
    for _ in range(2):
        budget.settle("a", 3)
    assert budget.committed_nanousd == 3
    assert budget.reserve(Reservation("a", caller(), 5)) == "this attempt is paid and over"
    assert budget.committed_nanousd == 3


def test_an_attempt_that_cost_nothing_leaves_its_room_to_the_next_and_stays_counted() -> None:
    budget = SpendBudget(SpendLimits(call_nanousd=5, run_calls=3))
    assert budget.reserve(Reservation("a#0.1", caller(), 5)) is None
    assert budget.reserve(Reservation("a#0.2", caller(), 5)) is not None
    assert budget.reserve(Reservation("a#0.2", caller(), 5, free=("a#0.1",))) is None
    assert list(budget.held_of("a#0")) == ["a#0.2"] and budget.committed_nanousd == 5
    again = Reservation("a#0.3", caller(), 5, free=("a#0.1", "a#0.2", "other#0.1"))
    assert budget.reserve(again) is None
    assert (
        budget.reserve(Reservation("b#0.1", caller(), 0)) == "budget exhausted: 3 calls for the run"
    )


def test_an_attempt_that_would_earn_money_is_refused() -> None:
    budget = SpendBudget(SpendLimits(run_nanousd=5))
    assert budget.reserve(Reservation("a", caller(), -1)) is not None
    assert budget.committed_nanousd == 0


def test_the_limit_of_a_step_does_not_span_the_measurements() -> None:
    budget = SpendBudget(SpendLimits(step_nanousd=5, step_calls=1, episode_nanousd=5))
    for i in range(3):
        measured = caller(MEASUREMENT, f"heldout/{i}")
        assert budget.reserve(Reservation(f"a{i}", measured, 5)) is None
        assert budget.reserve(Reservation(f"b{i}", measured, 1)) is not None
    assert budget.reserve(Reservation("c", caller(1), 5)) is None
    assert budget.reserve(Reservation("d", caller(1, "f"), 1)) is not None


def test_more_than_was_reserved_cannot_be_settled() -> None:
    budget = SpendBudget(SpendLimits())
    budget.reserve(Reservation("a", caller(), 5))
    for key, charged_nanousd in [("a", 6), ("a", -1), ("never", 0)]:
        with pytest.raises(ValueError, match=key):
            budget.settle(key, charged_nanousd)


def test_a_step_is_forgotten_but_not_what_it_still_holds() -> None:
    budget = SpendBudget(SpendLimits(episode_nanousd=10))
    budget.reserve(Reservation("done", caller(1, "e"), 10))
    budget.settle("done", 10)
    budget.reserve(Reservation("lost", caller(1, "f"), 10))
    budget.forget_step(1)
    assert budget.reserve(Reservation("again", caller(1, "f"), 1)) is not None
    assert budget.committed_nanousd == 20


def test_dollars_of_the_configuration_become_nano_dollars() -> None:
    limits = limits_of(SpendConfig(run_usd=1.25, step_calls=3))
    assert limits == SpendLimits(run_nanousd=1_250_000_000, step_calls=3)


attempts = st.tuples(
    st.sampled_from("ab"),  # the call
    st.integers(0, 1),  # its issue
    st.integers(0, 30),  # the most
    st.floats(0, 1),  # the share of it that is billed
    st.sampled_from(["settled", "held", "free"]),
)


@settings(max_examples=300)
@given(st.lists(attempts, max_size=40), st.integers(0, 60))
def test_no_history_of_retries_hedges_and_issues_costs_more_than_a_call_may(
    history: list[tuple[str, int, int, float, str]], call: int
) -> None:
    budget = SpendBudget(SpendLimits(call_nanousd=call))
    most_of: dict[str, int] = {"a": 0, "b": 0}
    free: dict[str, tuple[str, ...]] = {}
    for number, (name, reissues, most, share, end) in enumerate(history):
        of_issue = f"{name}#{reissues}"
        asked = Reservation(f"{of_issue}.{number}", caller(), most, free.pop(of_issue, ()))
        if budget.reserve(asked) is not None:
            continue
        if end == "free":
            free[of_issue] = (*free.get(of_issue, ()), asked.key)
            continue
        billed = int(share * most) if end == "settled" else most
        if end == "settled":
            budget.settle(asked.key, billed)
        most_of[name] += billed
        assert most_of[name] <= call
    for of_issue, keys in free.items():
        for key in keys:
            assert key in budget.held_of(of_issue)
            budget.settle(key, 0)
    assert budget.committed_nanousd == sum(most_of.values())


events = st.lists(
    st.tuples(
        st.integers(0, 40),  # key
        st.integers(0, 3),  # step
        st.sampled_from("ef"),
        st.integers(0, 60),  # the most
        st.floats(0, 1),  # the share of it that is billed; above 0.9 its process dies
    ),
    max_size=80,
)


@settings(max_examples=300)
@given(events, st.integers(0, 200), st.integers(0, 100), st.integers(0, 60))
def test_no_history_overruns_a_limit(
    history: list[tuple[int, int, str, int, float]], run: int, step: int, episode: int
) -> None:
    limits = SpendLimits(episode_nanousd=episode, step_nanousd=step, run_nanousd=run)
    budget, billed = SpendBudget(limits), {}
    granted: dict[str, Reservation] = {}
    for number, (key, at_step, name, most, share) in enumerate(history):
        asked = Reservation(f"{key}", caller(at_step, name), most)
        if asked.key in billed or asked.key in granted:
            asked = replace(asked, key=f"{key}.{number}")
        if budget.reserve(asked) is not None:
            continue
        granted[asked.key] = asked
        billed[asked.key] = most if share > 0.9 else int(share * most)
        if share <= 0.9:
            budget.settle(asked.key, billed[asked.key])
    spent = {k: (granted[k].caller, amount) for k, amount in billed.items()}
    assert sum(amount for _, amount in spent.values()) <= run
    assert budget.committed_nanousd == sum(amount for _, amount in spent.values())
    for at_step in range(4):
        of_step = [(a, n) for a, n in spent.values() if a.step == at_step]
        assert at_step == MEASUREMENT or sum(n for _, n in of_step) <= step
        for name in "ef":
            assert sum(n for a, n in of_step if a.episode_id == name) <= episode
