"""The choices of configuration keys that are enumerations."""

from enum import IntEnum, StrEnum


class ZeroStage(IntEnum):
    """What DeepSpeed ZeRO shards across the learner's ranks."""

    ONE = 1  # optimizer states
    TWO = 2  # and gradients
    THREE = 3  # and parameters


class Surrogate(StrEnum):
    """The objective of a token, and its ratio of policy to old policy."""

    CLIP = "clip"  # the clipped ratio of the token times the advantage: PPO, GRPO, DAPO
    GSPO = "gspo"  # as `clip`, with the geometric mean of the ratios of the sequence
    CISPO = "cispo"  # the log-probability, weighted by the clipped ratio as a constant


class Aggregation(StrEnum):
    """How the loss of an optimizer batch is averaged."""

    TOKEN = "token"  # over all response tokens
    TURN = "turn"  # over the mean of each turn
    SEQUENCE = "sequence"  # over the mean of each sequence
    EPISODE = "episode"  # over the mean of each episode, which can have several sequences
    CONSTANT = "constant"  # over the sum of each sequence divided by `constant_tokens`


class ContextPolicy(StrEnum):
    """The prompt of each turn; see `orchestra_ray.workers.rollout.context`."""

    TRANSCRIPT = "transcript"  # the conversation so far; an episode is one training sequence
    REBUILD = "rebuild"  # a fresh two-message prompt; every turn is a training sequence


class KlEstimator(StrEnum):
    """An estimator of KL(policy, reference) from the two log-probabilities of a sampled token."""

    K1 = "k1"  # the log-ratio
    K2 = "k2"  # half its square
    K3 = "k3"  # the inverse ratio - 1 - its logarithm


class WandbMode(StrEnum):
    AUTO = "auto"  # online if a key is set, else offline
    ONLINE = "online"
    OFFLINE = "offline"
    DISABLED = "disabled"


class ToolMode(StrEnum):
    """The part of each toolset sample that an evaluation offers."""

    ALL = "all"  # tools and models
    BASIC = "basic"  # tools that run on no model
    NONE = "none"  # nothing: the policy answers without tools


class Overlong(StrEnum):
    """The treatment of an episode that a token limit cut short (DAPO, arXiv 2503.14476)."""

    FILTER = "filter"  # it is not trained
    KEEP = "keep"  # it is trained as incorrect
    PENALISE = "penalise"  # as `keep`, and the reward falls as a response nears the limit


class CassetteMode(StrEnum):
    """How tools use a recording of calls."""

    LIVE = "live"  # call, without a recording
    RECORD = "record"  # call and record
    REPLAY_OR_LIVE = "replay_or_live"  # replay recorded calls; call and record the others
    REPLAY = "replay"  # replay; an unrecorded call is a fault that the policy reads
    REPLAY_OR_FAIL = "replay_or_fail"  # replay; an unrecorded call ends the episode

    @property
    def records(self) -> bool:
        return self in (CassetteMode.RECORD, CassetteMode.REPLAY_OR_LIVE)

    @property
    def calls(self) -> bool:
        return self is CassetteMode.LIVE or self.records


class Latencies(StrEnum):
    """The service seconds of a replayed call."""

    RECORDED = "recorded"  # those of the recorded outcome
    SAMPLED = "sampled"  # those of a random answered call of the same tool, by the call's seed
