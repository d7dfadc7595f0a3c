"""The pools of several clients, summed up."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.workers.tools.runtime.health import (
    ExecutorHealth,
    ExecutorState,
    PoolState,
    ToolQueue,
    metrics_of,
)

counts = st.integers(0, 50)
states = st.builds(
    PoolState,
    st.dictionaries(
        st.sampled_from(["nova", "code"]),
        st.builds(ToolQueue, counts, counts, st.floats(0, 100)),
    ),
    st.lists(st.sampled_from(ExecutorState), min_size=3, max_size=3).map(
        lambda of: [ExecutorHealth(f"{i}", state, "", 0, 0) for i, state in enumerate(of)]
    ),
)


@given(st.lists(states, max_size=4))
def test_calls_sum_the_longest_wait_stands_and_each_executor_counts_once(
    given_states: Sequence[PoolState],
) -> None:
    metrics = dict(metrics_of(given_states))
    if not given_states:
        assert metrics == {}
        return
    live, down = metrics.pop("executors/live"), metrics.pop("executors/down")
    seen = [{s.health[i].state for s in given_states} for i in range(3)]
    broken = [bool(of & {ExecutorState.DOWN, ExecutorState.GONE}) for of in seen]
    serving = [ExecutorState.LIVE in of and not bad for of, bad in zip(seen, broken, strict=True)]
    assert (live, down) == (sum(serving), sum(broken))
    for tool in {tool for state in given_states for tool in state.queues}:
        queues = [state.queues[tool] for state in given_states if tool in state.queues]
        assert metrics.pop(f"queue/{tool}/waiting") == sum(queue.waiting for queue in queues)
        assert metrics.pop(f"queue/{tool}/running") == sum(queue.in_flight for queue in queues)
        longest_s = max(queue.oldest_wait_s for queue in queues)
        assert metrics.pop(f"queue/{tool}/oldest_s") == longest_s
    assert metrics == {}
