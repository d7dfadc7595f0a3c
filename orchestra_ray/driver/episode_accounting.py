"""Counts episodes, not money: each dispatched episode ends exactly once, in one terminal state.

dispatched = ended + in flight, at all times. A violation is a bug in the driver: it raises an
exception, which ends the run.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from orchestra_ray.core.states import Ended


class AccountingError(RuntimeError):
    """An episode was dispatched twice, ended twice, or ended without having been dispatched."""


class Accounting:
    def __init__(self) -> None:
        self.dispatched = 0
        self._in_flight: set[str] = set()
        self._ended: Counter[Ended] = Counter()

    def dispatch(self, episode_ids: Iterable[str]) -> None:
        for episode_id in episode_ids:
            if episode_id in self._in_flight:
                raise AccountingError(f"episode {episode_id} was dispatched twice")
            self._in_flight.add(episode_id)
            self.dispatched += 1

    def end(self, episode_id: str, state: Ended) -> None:
        if episode_id not in self._in_flight:
            raise AccountingError(f"episode {episode_id} ended as {state} but is not in flight")
        self._in_flight.remove(episode_id)
        self._ended[state] += 1

    def end_all_in_flight(self, state: Ended) -> int:
        """Ends all episodes in flight, at the end of a run; returns their number."""
        left = sorted(self._in_flight)
        for episode_id in left:
            self.end(episode_id, state)
        return len(left)

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def check(self) -> None:
        """Raises `AccountingError` if the identity does not hold."""
        ended = self._ended.total()
        if self.dispatched != ended + self.in_flight:
            raise AccountingError(
                f"dispatched {self.dispatched} != ended {ended} + in flight {self.in_flight}"
            )

    def metrics(self) -> Mapping[str, int]:
        counts = {f"accounting/{state.value}": self._ended[state] for state in Ended}
        return {
            "accounting/dispatched": self.dispatched,
            "accounting/in_flight": self.in_flight,
            **counts,
        }
