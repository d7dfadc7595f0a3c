"""All kinds of failure, and the values that carry them.

- `FaultKind`, raised inside a tool executor as a `Fault`: one tool call failed. The fault's text
  becomes the tool's reply to the policy, its kind goes into the ledger, and the episode continues.
- `FailureKind`, returned between processes as a `Failure`: an episode, a group, an actor or a file
  of the run failed. Rollout workers, tool executors, the scorer, the learner and the tracker return
  it to their caller. The driver maps an episode's to its terminal state (`Ended.failed`).
- `DropReason`, in a `GroupScore` from the scorer to the driver: a group was scored and is not
  trained, because its rewards carry no signal. Nothing failed.
"""

from dataclasses import dataclass
from enum import StrEnum

from orchestra_ray.core.money import Usage
from orchestra_ray.core.process_log import LogTail, with_log


class FailureKind(StrEnum):
    ENGINE = "engine"  # the inference engine rejected the request, or died
    TOOL = "tool"  # a tool failed through no fault of the policy
    REWARD = "reward"  # the scorer could not score the group
    INFRASTRUCTURE = "infrastructure"  # an actor, a node or the object store was lost
    DEADLINE = "deadline"  # the episode ran past its deadline
    BUDGET = "budget"  # a spending limit ended it


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed part of the run: its kind, its place, and the reason in one line.

    permanent: it would recur with any weights at any time, as with a bug or a chat template that
    does not fit the tokenizer. log: of the failed process, if it has one.
    """

    kind: FailureKind
    where: str
    message: str
    permanent: bool = False
    log: LogTail | None = None

    @property
    def line(self) -> str:
        """The message, with the reason and the path of the log."""
        return with_log(self.message, self.log)


class FaultKind(StrEnum):
    """The class of a failed call, in the ledger and the metrics."""

    BAD_JSON = "bad_json"  # the arguments are not a JSON object
    UNKNOWN_TOOL = "unknown_tool"  # no such tool or model in the toolset sample
    MISSING_ARGUMENT = "missing_argument"
    EXTRA_ARGUMENT = "extra_argument"
    WRONG_TYPE = "wrong_type"  # an argument violates its schema
    BAD_INPUT = "bad_input"  # well typed, but invalid for the tool, such as a bad expression
    CONNECTION = "connection"  # the endpoint is unreachable, or closed the connection
    TIMEOUT = "timeout"  # no answer before the deadline
    RATE_LIMITED = "rate_limited"  # by the endpoint
    SERVER_ERROR = "server_error"  # an error inside the endpoint
    BAD_REPLY = "bad_reply"  # the reply cannot be parsed
    REJECTED = "rejected"  # the endpoint rejected this request: its size or content
    DENIED = "denied"  # the endpoint rejects every request: key, quota, no such model
    UNAVAILABLE = "unavailable"  # the tool cannot run here, or its circuit is open
    BUDGET = "budget"  # refused by the spend budget
    NOT_RECORDED = "not_recorded"  # the recording that is replayed lacks the call
    LOST = "lost"  # the executor died during the call, or never answered
    CRASHED = "crashed"  # a bug of the tool: an unexpected exception

    @property
    def retryable(self) -> bool:
        return self in _TRANSIENT

    @property
    def is_invalid_call(self) -> bool:
        """Whether the call itself is invalid, so that the policy can correct it."""
        return self in _INVALID_CALL


_TRANSIENT = {
    FaultKind.CONNECTION,
    FaultKind.TIMEOUT,
    FaultKind.RATE_LIMITED,
    FaultKind.SERVER_ERROR,
    FaultKind.BAD_REPLY,
}
MAY_HAVE_ACTED = {FaultKind.TIMEOUT, FaultKind.BAD_REPLY, FaultKind.CONNECTION}
_INVALID_CALL = {
    FaultKind.BAD_JSON,
    FaultKind.UNKNOWN_TOOL,
    FaultKind.MISSING_ARGUMENT,
    FaultKind.EXTRA_ARGUMENT,
    FaultKind.WRONG_TYPE,
    FaultKind.BAD_INPUT,
}


class Fault(Exception):
    """A failed tool call: its kind, a line for the policy, and the billed usage.

    retry_after_s: the wait that the endpoint asked for. service_s: as in a `Reply`. sent: False if
    no request left this machine, so that nothing was executed and nothing is billed.
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
        """Whether the request may have been executed, and billed, although it failed."""
        return self.sent and self.kind in MAY_HAVE_ACTED


class DropReason(StrEnum):
    """Why a scored group is not trained."""

    SINGLE = "single"  # one episode, which has no other to be compared with
    ALL_WRONG = "all_wrong"  # no episode is correct, and the rewards are equal
    EQUAL = "equal"  # the rewards are equal, and some episode is correct
    CLOSE = "close"  # the rewards differ by less than the estimator requires
