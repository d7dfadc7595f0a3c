"""What a key of the configuration can be, where it is one of a few words."""

from enum import IntEnum, StrEnum


class ZeroStage(IntEnum):
    """What DeepSpeed ZeRO shards across the learner's ranks."""

    ONE = 1  # optimizer states
    TWO = 2  # and gradients
    THREE = 3  # and parameters


class Surrogate(StrEnum):
    """What of a token is maximised, and what its ratio of policy to old policy is."""

    CLIP = "clip"  # the clipped ratio of the token times the advantage: PPO, GRPO, DAPO
    GSPO = "gspo"  # the same with the ratio of the whole sequence, the mean over its tokens
    CISPO = "cispo"  # the log-probability, weighted by the clipped ratio as a constant


class Aggregation(StrEnum):
    """How the loss of an optimizer batch is averaged."""

    TOKEN = "token"  # over all its response tokens
    TURN = "turn"  # over the mean of each turn
    SEQUENCE = "sequence"  # over the mean of each sequence
    EPISODE = "episode"  # over the mean of each episode, which may be several sequences
    CONSTANT = "constant"  # over the sum of each sequence divided by `constant_tokens`


class ContextPolicy(StrEnum):
    """What the policy reads before each turn; see `orchestra_ray.workers.rollout.context`."""

    TRANSCRIPT = "transcript"  # the conversation so far; an episode is one training sequence
    REBUILD = "rebuild"  # a fresh prompt of what is known; every turn is one


class KlEstimator(StrEnum):
    """An estimate of KL(policy, reference) from the two probabilities of a sampled token."""

    K1 = "k1"  # the log-ratio
    K2 = "k2"  # half its square
    K3 = "k3"  # the inverse ratio - 1 - its logarithm


class WandbMode(StrEnum):
    AUTO = "auto"  # online where a key is set, else offline
    ONLINE = "online"
    OFFLINE = "offline"
    DISABLED = "disabled"


class ToolMode(StrEnum):
    """What an evaluation offers of each draw."""

    ALL = "all"  # tools and models
    BASIC = "basic"  # tools that no model stands behind
    NONE = "none"  # nothing: the policy answers by itself


class Overlong(StrEnum):
    """What becomes of an episode that a token limit cut short (DAPO, arXiv 2503.14476)."""

    FILTER = "filter"  # it is not trained
    KEEP = "keep"  # it is trained, as one that is wrong
    PENALISE = "penalise"  # the same, and long responses lose reward before they reach the limit


class CassetteMode(StrEnum):
    """What tools do beside a recording of earlier calls."""

    LIVE = "live"  # call; there is no recording
    RECORD = "record"  # call, and record what came of it
    REPLAY_OR_LIVE = "replay_or_live"  # play what is recorded; call and record the rest
    REPLAY = "replay"  # play; what is not recorded is a fault that the policy reads
    REPLAY_OR_FAIL = "replay_or_fail"  # play; what is not recorded ends the episode

    @property
    def records(self) -> bool:
        return self in (CassetteMode.RECORD, CassetteMode.REPLAY_OR_LIVE)

    @property
    def calls(self) -> bool:
        return self is CassetteMode.LIVE or self.records


class Latencies(StrEnum):
    """How long a call that is played back took."""

    RECORDED = "recorded"  # the service seconds of the outcome that is played
    SAMPLED = "sampled"  # those of some answered call of the same tool, by the call's seed
