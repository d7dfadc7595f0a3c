"""The current incarnation of each executor, so that each is killed at most once.

An incarnation is one process of an executor; Ray starts the next one. Every client that sees an
executor hang names the incarnation that last answered it, so late reports never kill a new process.
"""

_ENDED = ""  # stands for an ended incarnation until the next one begins


class Incarnations:
    """Pure state, by executor; an incarnation becomes known by its begin or by its end."""

    def __init__(self) -> None:
        self._incarnations: dict[str, str] = {}

    def begin(self, executor: str, incarnation: str) -> None:
        self._incarnations[executor] = incarnation

    def end(self, executor: str, incarnation: str) -> bool:
        """Returns whether this incarnation was current; marks it as ended."""
        if self._incarnations.setdefault(executor, incarnation) != incarnation:
            return False
        self._incarnations[executor] = _ENDED
        return True
