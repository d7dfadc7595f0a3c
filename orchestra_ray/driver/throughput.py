"""Rates of generation over the time in which anything is generated, however batches overlap.

The time for which a step waits does not measure it: if generation runs ahead, groups are ready.
"""

import time
from collections.abc import Callable, Mapping


class Throughput:
    """Counts the seconds in which at least one group is open. Owned by one event loop."""

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
        """Ends a group, with the response tokens of its trajectories."""
        self._tokens += tokens
        self._trajectories += trajectories
        self._open -= 1
        if not self._open:
            self._busy_s += self._clock() - self._since_s

    def take(self) -> Mapping[str, float]:
        """Returns the rates since the last call that returned any; empty without trajectories."""
        now_s = self._clock()
        if self._open:
            self._busy_s += now_s - self._since_s
            self._since_s = now_s
        busy_s, tokens, trajectories = self._busy_s, self._tokens, self._trajectories
        if not trajectories or busy_s <= 0:
            return {}
        self._busy_s, self._tokens, self._trajectories = 0.0, 0, 0
        return {"tokens_per_s": tokens / busy_s, "trajectories_per_s": trajectories / busy_s}
