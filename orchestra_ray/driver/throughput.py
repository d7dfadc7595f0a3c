"""Rates of generation while something is being generated, however batches overlap.

What a step waits for its next group says nothing of that: where generation runs ahead, the groups
are there already.
"""

import time
from collections.abc import Callable, Mapping


class Throughput:
    """Groups begin and end; seconds in which at least one is open count once. One event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._open = 0
        self._since_s = 0.0
        self._busy_s = 0.0
        self._tokens = self._trajectories = 0

    def begin(self) -> None:
        if not self._open:
            self._since_s = self._clock()
        self._open += 1

    def end(self, tokens: int = 0, trajectories: int = 0) -> None:
        """A group is over, with this many response tokens in the trajectories that came back."""
        self._tokens += tokens
        self._trajectories += trajectories
        self._open -= 1
        if not self._open:
            self._busy_s += self._clock() - self._since_s

    def take(self) -> Mapping[str, float]:
        """The metrics of what has ended since the last take; none if nothing has been generated."""
        now_s = self._clock()
        if self._open:
            self._busy_s += now_s - self._since_s
            self._since_s = now_s
        busy_s, tokens, trajectories = self._busy_s, self._tokens, self._trajectories
        if not trajectories or busy_s <= 0:
            return {}
        self._busy_s, self._tokens, self._trajectories = 0.0, 0, 0
        return {"tokens_per_s": tokens / busy_s, "trajectories_per_s": trajectories / busy_s}
