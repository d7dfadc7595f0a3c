"""What an executor runs: one small class a kind of tool, behind one method.

A tool is made once in each executor process, from its catalogue entry, and called by many episodes
at once. It knows nothing of prices, budgets, limits, retries or cassettes: the executor has these
around it. What goes wrong is a `Fault`; nothing else that a tool raises is expected.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import ToolRequest


class FaultKind(StrEnum):
    """The class of a failed call, in the ledger and the metrics."""

    BAD_JSON = "bad_json"  # the arguments are not a JSON object
    UNKNOWN_TOOL = "unknown_tool"  # no such tool or model in the draw
    MISSING_ARGUMENT = "missing_argument"
    EXTRA_ARGUMENT = "extra_argument"
    WRONG_TYPE = "wrong_type"  # an argument against its schema
    BAD_INPUT = "bad_input"  # well typed, and the tool cannot do it: a bad expression
    CONNECTION = "connection"  # the endpoint is not there, or hung up
    TIMEOUT = "timeout"  # no answer before the deadline
    RATE_LIMITED = "rate_limited"  # the endpoint said so
    SERVER_ERROR = "server_error"  # the endpoint failed
    BAD_REPLY = "bad_reply"  # an answer that cannot be read
    REJECTED = "rejected"  # the endpoint refused the request for what it is: size, content
    DENIED = "denied"  # the endpoint refuses us, whatever we ask: key, quota, no such model
    UNAVAILABLE = "unavailable"  # the tool cannot run here, or its circuit is open
    BUDGET = "budget"  # the spend guard refused it
    NOT_RECORDED = "not_recorded"  # replay found nothing
    LOST = "lost"  # the executor's process died under it, or never answered
    CRASHED = "crashed"  # the tool has a bug: it raised what no tool may raise

    @property
    def retryable(self) -> bool:
        return self in _PASSING

    @property
    def is_the_calls_own(self) -> bool:
        """The policy asked for something wrong, and can ask better."""
        return self in _OWN


_PASSING = {
    FaultKind.CONNECTION,
    FaultKind.TIMEOUT,
    FaultKind.RATE_LIMITED,
    FaultKind.SERVER_ERROR,
    FaultKind.BAD_REPLY,
}
MAY_HAVE_ACTED = {FaultKind.TIMEOUT, FaultKind.BAD_REPLY, FaultKind.CONNECTION}
_OWN = {
    FaultKind.BAD_JSON,
    FaultKind.UNKNOWN_TOOL,
    FaultKind.MISSING_ARGUMENT,
    FaultKind.EXTRA_ARGUMENT,
    FaultKind.WRONG_TYPE,
    FaultKind.BAD_INPUT,
}


@dataclass(frozen=True, slots=True)
class Reply:
    """What a tool gave back. `service_s` is given on a simulated clock; None: it is measured.

    `replayed`: it comes from a cassette, nothing was called, and `usage` is what it did cost.
    """

    text: str
    usage: Usage = Usage()
    service_s: float | None = None
    replayed: bool = False


class Fault(Exception):
    """A call that failed: its class, a line for the policy to read, and what is billed for it.

    `retry_after_s` is what the endpoint asked for; `service_s` as of a `Reply`. `sent` is False if
    no request left this machine, so that nothing was done and nothing is billed.
    """

    def __init__(
        self,
        kind: FaultKind,
        text: str,
        usage: Usage | None = None,
        retry_after_s: float | None = None,
        service_s: float | None = None,
        sent: bool = True,
    ):
        super().__init__(text)
        self.kind, self.usage = kind, usage
        self.retry_after_s, self.service_s = retry_after_s, service_s
        self.sent = sent

    @property
    def may_have_acted(self) -> bool:
        """Whether the request may have been carried out, and billed, although it failed."""
        return self.sent and self.kind in MAY_HAVE_ACTED


class Tool(Protocol):
    async def call(self, request: ToolRequest) -> Reply:
        """The answer to `request.arguments`; raises `Fault`. The executor cuts it off in time."""
        ...

    async def close(self) -> None:
        """Ends what the tool started: processes, connections."""
        ...
