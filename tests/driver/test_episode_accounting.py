import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.states import Ended
from orchestra_ray.driver.episode_accounting import Accounting, AccountingError


@given(st.lists(st.sampled_from(list(Ended)), max_size=40), st.integers(0, 20))
def test_dispatched_is_ended_plus_in_flight(ends: list[Ended], more: int) -> None:
    accounting = Accounting()
    accounting.dispatch(f"e{i}" for i in range(len(ends) + more))
    for i, state in enumerate(ends):
        accounting.end(f"e{i}", state)
        accounting.check()
    metrics = accounting.metrics()
    assert metrics["accounting/in_flight"] == more
    assert sum(metrics[f"accounting/{state.value}"] for state in Ended) == len(ends)
    assert accounting.end_all_in_flight(Ended.CANCELLED) == more
    accounting.check()


def test_an_episode_cannot_end_twice() -> None:
    accounting = Accounting()
    accounting.dispatch(["a"])
    accounting.end("a", Ended.TRAINED)
    with pytest.raises(AccountingError, match="not in flight"):
        accounting.end("a", Ended.STALE)


def test_an_episode_cannot_be_dispatched_twice() -> None:
    accounting = Accounting()
    with pytest.raises(AccountingError, match="twice"):
        accounting.dispatch(["a", "a"])


def test_a_lost_episode_breaks_the_check() -> None:
    accounting = Accounting()
    accounting.dispatch(["a", "b"])
    accounting._in_flight.discard("a")
    with pytest.raises(AccountingError, match="dispatched 2 != ended 0 \\+ in flight 1"):
        accounting.check()
