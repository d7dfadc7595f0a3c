"""Sections of the configuration that decide what is learned: reward, loss, optimizer and loop.

`MISSING` marks a value that a file must give.
"""

from dataclasses import dataclass, field

from omegaconf import MISSING

from orchestra_ray.config.enums import Aggregation, KlEstimator, Overlong, Surrogate, ZeroStage


@dataclass
class RewardWeightsConfig:
    """The reward of one unit of each amount, for the preset `scalarised`."""

    outcome: float = 1.0
    usd: float = 0.0
    seconds: float = 0.0
    tools: dict[str, float] = field(default_factory=dict)  # by the call


@dataclass
class RewardConfig:
    """How a group is scored. Presets and estimators: see `orchestra_ray.workers.reward`."""

    preset: str = "paper"  # or released, gdpo, scalarised, budgeted
    advantage: str | None = None  # the estimator; None: the preset's own, or grpo
    advantage_clip: float | None = None  # the largest absolute advantage
    turn_credit: bool = False  # a turn is charged only what the episode spends from it on
    weights: RewardWeightsConfig = field(default_factory=RewardWeightsConfig)
    budget_usd: float | None = None  # of `budgeted`: the mean cost of an episode
    multiplier: float = 0.0  # of `budgeted`: the initial Lagrange multiplier
    multiplier_rate: float = 0.1  # of `budgeted`: how fast the multiplier follows the cost
    cpus: float = 0.25
    deadline_s: float = 300.0


@dataclass
class LossConfig:
    """The policy-gradient loss (paper, section 3.2)."""

    surrogate: Surrogate = Surrogate.CLIP
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None  # bounds the loss of a negative advantage; not of cispo
    kl_coef: float = 0.0
    kl_estimator: KlEstimator = KlEstimator.K2
    entropy_coef: float = 0.0  # of the bonus for the entropy of each token's distribution
    measure_entropy: bool = False  # report the entropy even if the coefficient is 0
    importance_cap: float | None = None  # truncates pi_old / pi_behaviour; None: no correction
    aggregation: Aggregation = Aggregation.TOKEN
    constant_tokens: int = 8_000  # of aggregation `constant`
    drop_malformed_turns: bool = False  # train no token of a turn whose format is wrong


@dataclass
class LearnerConfig:
    """DeepSpeed ranks and the optimizer."""

    ranks: int = 2
    cpus_per_rank: float = 0.5
    gpus_per_rank: int = 0
    zero_stage: ZeroStage = ZeroStage.TWO
    offload_optimizer: bool = False
    gradient_checkpointing: bool = False
    lr: float = 1e-6
    lr_warmup_steps: int = 0  # optimizer steps over which the rate rises linearly to `lr`
    lr_final: float = 1.0  # the last step's rate as a share of `lr`; the decay is linear
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    adam_eps: float = 1e-8  # added to the root of the second moment; dampens smaller gradients
    grad_clip: float = 1.0
    minibatches: int = 1  # optimizer steps a batch; 1 makes the update on-policy
    tokens_per_microbatch: int = 32_768
    loss: LossConfig = field(default_factory=LossConfig)
    start_deadline_s: float = 900.0
    step_deadline_s: float = 1_800.0


@dataclass
class WeightsConfig:
    """How new weights reach the rollout workers."""

    backend: str = "object_store"
    bucket_mib: int = 512
    deadline_s: float = 300.0


@dataclass
class TrainingConfig:
    """The loop. `max_staleness: 0` is synchronous; a larger one needs an importance cap."""

    steps: int = MISSING
    groups_per_step: int = 16
    group_size: int = 8
    max_staleness: int = 0
    # Above 1: groups without a signal are replaced, up to so many times the groups of a step.
    sampling_factor: int = 1
    overlong: Overlong = Overlong.FILTER
    # Consecutive steps without an update after which the run ends; 0 or null: never.
    idle_steps_max: int | None = 20
    overlong_margin: float = 0.2  # of `penalise`: the last share of the limit, where reward falls
    checkpoint_every: int = 0  # steps; 0: only at the end
    keep_checkpoints: int = 2
