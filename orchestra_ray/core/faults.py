"""Every kind of failure, and the values that carry them between processes.

Who uses which:

- `FaultKind`, raised inside an executor as a `Fault`: one tool call failed. The policy reads its
  text, the ledger has its kind, and the episode goes on.
- `FailureKind`, sent between processes as a `Failure`: an episode, a group, an actor or a file of
  the run failed. Rollout workers, scorer, learner and tracker return it; the driver maps that of
  an episode to its terminal state (`Ended.failed`).
- `DropReason`, counted by the scorer: a whole group teaches nothing. Nothing failed.
"""

from dataclasses import dataclass
from enum import StrEnum

from orchestra_ray.core.money import Usage
from orchestra_ray.core.process_log import LogTail, with_log


class FailureKind(StrEnum):
    ENGINE = "engine"  # the inference engine refused, died or lost the request
    TOOL = "tool"  # a tool failed in a way that is not the policy's fault
    REWARD = "reward"  # the scorer could not score the group
    INFRASTRUCTURE = "infrastructure"  # an actor, a node or the object store was lost
    DEADLINE = "deadline"  # the episode ran past its deadline
    BUDGET = "budget"  # a spending limit ended it


@dataclass(frozen=True, slots=True)
class Failure:
    """What failed, where, and the first line of why.

    permanent: the same would happen again with any weights at any time, as with a bug of ours or a
    template that does not fit the tokenizer. log: of the process that failed, where it has one.
    """

    kind: FailureKind
    where: str
    message: str
    permanent: bool = False
    log: LogTail | None = None

    @property
    def line(self) -> str:
        """The message with the reason and the path that the log gives."""
        return with_log(self.message, self.log)


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


class DropReason(StrEnum):
    """Why a group teaches nothing."""

    SINGLE = "single"  # one episode has nothing to be measured against
    ALL_WRONG = "all_wrong"  # nobody was right, and the rewards are equal
    EQUAL = "equal"  # the rewards are equal, with a right one among them
    CLOSE = "close"  # the rewards differ by less than the estimator asks for
