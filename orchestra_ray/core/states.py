"""How an episode stops, how it ends, and what can fail.

`Stop` is the worker's word: why the conversation went no further.
`Ended` is the driver's word: the one terminal state that each dispatched episode gets, once.
`Failure` is a value that crosses processes in place of an exception.
"""

from dataclasses import dataclass
from enum import StrEnum

from orchestra_ray.core.process_log import LogTail, with_log


class Stop(StrEnum):
    ANSWERED = "answered"  # the policy gave a final answer
    TURN_LIMIT = "turn_limit"  # the last allowed turn still called a tool
    LENGTH = "length"  # a response or the context reached its token limit
    FAILED = "failed"  # see the trajectory's failure


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


class Ended(StrEnum):
    TRAINED = "trained"  # its tokens were in an optimizer step
    EVALUATED = "evaluated"  # it was measured, not trained on
    HOMOGENEOUS = "filtered_homogeneous"  # its group's rewards hardly differ: no signal
    INVALID = "filtered_invalid"  # it gave no answer
    FORMAT = "filtered_format"  # no turn of it kept the tool-call format
    OVERLONG = "filtered_overlong"  # a token limit cut it short
    STALE = "stale"  # sampled by weights older than max_staleness allows
    FAILED_ENGINE = "failed_engine"
    FAILED_TOOL = "failed_tool"
    FAILED_REWARD = "failed_reward"
    FAILED_INFRASTRUCTURE = "failed_infrastructure"
    FAILED_DEADLINE = "failed_deadline"
    FAILED_BUDGET = "failed_budget"
    CANCELLED = "cancelled"  # the run ended first

    @staticmethod
    def failed(kind: FailureKind) -> "Ended":
        return Ended(f"failed_{kind.value}")
