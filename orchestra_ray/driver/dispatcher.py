"""Decides when to dispatch the next group, and to which worker: a state machine over counters.

At most (1 + max_staleness) batches of groups are dispatched and not yet consumed by a step. With
max_staleness 0, training is synchronous: one batch, generated entirely by the weights that it
trains. A slow group that later ones overtake can still exceed that age; the filters drop it as
stale.
"""

from collections.abc import Sequence


class Dispatcher:
    def __init__(
        self, steps: int, groups_per_step: int, max_staleness: int, workers: Sequence[int]
    ):
        self._steps_left = steps
        self._steps_ended = 0
        self._groups_per_step = groups_per_step
        self._batches = 1 + max_staleness
        self._outstanding = 0  # dispatched and not yet consumed
        self._load = dict.fromkeys(workers, 0)

    def next_worker(self, wanted: int | None = None) -> int | None:
        """Returns the least loaded worker for the next group, or None if none is due.

        wanted: the groups that the current step still needs, if it needs more than its batch.
        """
        ahead = min(self._batches, self._steps_left) - 1
        own = self._groups_per_step if wanted is None else wanted
        if self._outstanding >= ahead * self._groups_per_step + own:
            return None
        return min(self._load, key=self._load.__getitem__, default=None)

    @property
    def step(self) -> int:
        """The step of the next group, if groups are consumed in order."""
        return self._steps_ended + self._outstanding // self._groups_per_step + 1

    def dispatched(self, worker: int) -> None:
        self._outstanding += 1
        self._load[worker] += 1

    def returned(self, worker: int) -> None:
        """Records that a group has left its worker, with or without success."""
        if worker in self._load:
            self._load[worker] -= 1

    def consumed(self, groups: int) -> None:
        """Records that a step has taken groups from the buffer."""
        self._outstanding -= groups

    def step_ended(self) -> None:
        self._steps_ended += 1
        self._steps_left -= 1

    def lost(self, worker: int) -> None:
        """Removes a worker that is gone."""
        self._load.pop(worker, None)

    @property
    def workers(self) -> Sequence[int]:
        return list(self._load)
