"""A circuit breaker: rejects calls of a failing endpoint for a while, then admits one probe.

Pure state; the caller passes the time. Only faults of the endpoint count, not those of a call.
"""

from dataclasses import dataclass

FAILURES_TO_OPEN = 5
REST_S = 15.0


@dataclass(slots=True)
class CircuitBreaker:
    """Closed until `failures_to_open` in a row, then open for `rest_s`; then one probe decides."""

    failures_to_open: int = FAILURES_TO_OPEN
    rest_s: float = REST_S
    failures: int = 0
    opened_at_s: float | None = None
    probing: bool = False

    def admits(self, now_s: float) -> bool:
        """Returns whether a call may be made; True from an open breaker makes it the probe."""
        if self.opened_at_s is None:
            return True
        if self.probing or now_s < self.opened_at_s + self.rest_s:
            return False
        self.probing = True
        return True

    def succeeded(self) -> None:
        self.failures, self.opened_at_s, self.probing = 0, None, False

    def failed(self, now_s: float) -> None:
        self.failures += 1
        if self.probing or self.failures >= self.failures_to_open:
            self.opened_at_s, self.probing = now_s, False

    def undecided(self) -> None:
        """Records that the call ended without an outcome; another may probe."""
        self.probing = False
