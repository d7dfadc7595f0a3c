from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.driver.dispatcher import Dispatcher


def fill(dispatcher: Dispatcher) -> list[int]:
    workers = []
    while (worker := dispatcher.next_worker()) is not None:
        dispatcher.dispatched(worker)
        workers.append(worker)
    return workers


def test_synchronous_training_dispatches_one_batch_and_waits() -> None:
    dispatcher = Dispatcher(steps=2, groups_per_step=3, max_staleness=0, workers=[0, 1])
    assert fill(dispatcher) == [0, 1, 0]
    dispatcher.returned(0)
    assert fill(dispatcher) == []
    dispatcher.consumed(3)
    dispatcher.step_ended()
    assert dispatcher.step == 2 and len(fill(dispatcher)) == 3
    dispatcher.consumed(3)
    dispatcher.step_ended()
    assert fill(dispatcher) == []


def test_a_step_that_asks_for_more_groups_gets_them_for_itself() -> None:
    dispatcher = Dispatcher(steps=1, groups_per_step=3, max_staleness=0, workers=[0])
    fill(dispatcher)
    dispatcher.consumed(3)
    assert dispatcher.step == 1 and dispatcher.next_worker(2) == 0
    dispatcher.dispatched(0)
    dispatcher.dispatched(0)
    assert dispatcher.next_worker(2) is None
    dispatcher.consumed(2)
    dispatcher.step_ended()
    assert fill(dispatcher) == []


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 3))
def test_in_order_no_group_is_older_than_max_staleness(steps: int, size: int, stale: int) -> None:
    dispatcher = Dispatcher(steps, size, stale, workers=[0])
    born: deque[int] = deque()
    for version in range(steps):
        born.extend(version for _ in fill(dispatcher))
        batch = [born.popleft() for _ in range(size)]
        assert version - min(batch) <= stale
        dispatcher.consumed(size)
        dispatcher.step_ended()
    assert not born


def test_a_lost_worker_gets_nothing_more() -> None:
    dispatcher = Dispatcher(steps=1, groups_per_step=4, max_staleness=0, workers=[0, 1])
    dispatcher.lost(0)
    assert fill(dispatcher) == [1, 1, 1, 1]
    dispatcher.lost(1)
    assert dispatcher.workers == []
