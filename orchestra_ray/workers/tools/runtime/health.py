"""Records of a pool's state: the health of its executors, and the queue of each tool.

Operators read the former, an autoscaler the latter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum


class ExecutorState(StrEnum):
    LIVE = "live"
    DOWN = "down"  # being restarted
    DRAINING = "draining"  # it gets no new calls
    GONE = "gone"  # it cannot be restarted


@dataclass(frozen=True, slots=True)
class ExecutorHealth:
    """One executor as its client sees it; `why` is the reason if it is not live."""

    name: str
    state: ExecutorState
    why: str
    in_flight: int
    restarts: int


@dataclass(frozen=True, slots=True)
class ToolQueue:
    """The calls of one tool: not sent yet, and at an executor, where a limit may hold them.

    oldest_wait_s: the age of the oldest call without a result.
    """

    waiting: int
    in_flight: int
    oldest_wait_s: float


@dataclass(frozen=True, slots=True)
class PoolState:
    """One client's view at one moment."""

    queues: Mapping[str, ToolQueue]
    health: Sequence[ExecutorHealth]


def metrics_of(states: Sequence[PoolState]) -> Mapping[str, float]:
    """Returns metrics over all clients: the sum of their calls, and the longest wait.

    Clients share the executors: an executor that any client cannot reach counts as down.
    """
    if not states:
        return {}
    metrics: dict[str, float] = {}
    for state in states:
        for tool, queue in state.queues.items():
            name = f"queue/{tool}"
            for key, count in (("waiting", queue.waiting), ("running", queue.in_flight)):
                metrics[f"{name}/{key}"] = metrics.get(f"{name}/{key}", 0.0) + count
            oldest_s = max(queue.oldest_wait_s, metrics.get(f"{name}/oldest_s", 0.0))
            metrics[f"{name}/oldest_s"] = oldest_s
    seen = {(one.name, one.state) for state in states for one in state.health}
    down = {name for name, state in seen if state in (ExecutorState.DOWN, ExecutorState.GONE)}
    live = {name for name, state in seen if state is ExecutorState.LIVE} - down
    return {**metrics, "executors/live": float(len(live)), "executors/down": float(len(down))}


def queues_of(
    waiting: Sequence[tuple[str, float]], sent: Sequence[tuple[str, float]]
) -> Mapping[str, ToolQueue]:
    """Returns the queue of each tool, from (tool, age in seconds) of each call."""
    counts: dict[str, tuple[int, int, float]] = {}
    for calls, of_waiting, of_sent in ((waiting, 1, 0), (sent, 0, 1)):
        for tool, age_s in calls:
            before = counts.get(tool, (0, 0, 0.0))
            counts[tool] = (before[0] + of_waiting, before[1] + of_sent, max(before[2], age_s))
    return {tool: ToolQueue(*counted) for tool, counted in counts.items()}
