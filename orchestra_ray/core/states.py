"""How an episode stops and how it ends.

`Stop` is set by the rollout worker: why generation ended.
`Ended` is set by the driver: the single terminal state of each dispatched episode.
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
    EVALUATED = "evaluated"  # it was part of an evaluation
    HOMOGENEOUS = "filtered_homogeneous"  # the rewards of its group differ too little
    INVALID = "filtered_invalid"  # it gave no answer
    FORMAT = "filtered_format"  # none of its turns has the tool-call format
    OVERLONG = "filtered_overlong"  # a token limit cut it short
    STALE = "stale"  # its weights are older than max_staleness allows
    FAILED_ENGINE = "failed_engine"
    FAILED_TOOL = "failed_tool"
    FAILED_REWARD = "failed_reward"
    FAILED_INFRASTRUCTURE = "failed_infrastructure"
    FAILED_DEADLINE = "failed_deadline"
    FAILED_BUDGET = "failed_budget"
    CANCELLED = "cancelled"  # the run ended before it

    @staticmethod
    def failed(kind: FailureKind) -> "Ended":
        return Ended(f"failed_{kind.value}")
