"""How an episode stops and how it ends.

`Stop` is set by the rollout worker: why the conversation went no further.
`Ended` is set by the driver: the one terminal state of each dispatched episode.
"""

from enum import StrEnum

from orchestra_ray.core.faults import FailureKind


class Stop(StrEnum):
    ANSWERED = "answered"  # the policy gave a final answer
    TURN_LIMIT = "turn_limit"  # the last allowed turn still called a tool
    LENGTH = "length"  # a response or the context reached its token limit
    FAILED = "failed"  # see the trajectory's failure


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
