"""The configuration as dataclasses: every key, its type, its default and its unit.

Values that a file must give are `MISSING`. Checks of a single value's type are OmegaConf's;
checks of ranges and across fields are in `checks.py`.
"""

from dataclasses import dataclass, field

from omegaconf import MISSING

from orchestra_ray.config.enums import (
    Aggregation,
    CassetteMode,
    ContextPolicy,
    KlEstimator,
    Latencies,
    Overlong,
    Surrogate,
    ToolMode,
    WandbMode,
    ZeroStage,
)


@dataclass
class TinyModelConfig:
    """A Qwen3-architecture model made on the spot and warm-started on demonstrations."""

    vocab_size: int = 2048
    hidden_size: int = 192
    intermediate_size: int = 384
    layers: int = 2
    heads: int = 6
    kv_heads: int = 3
    warmup_steps: int = 400  # supervised steps; 0 leaves the model random
    warmup_batch: int = 16
    warmup_lr: float = 0.04  # of Muon
    seed: int = 0


@dataclass
class ShapeConfig:
    """Dimensions of a Qwen3-like decoder: what the plan needs of a model not on this disk."""

    layers: int = MISSING
    hidden_size: int = MISSING
    intermediate_size: int = MISSING
    heads: int = MISSING
    kv_heads: int = MISSING
    head_dim: int = MISSING
    vocab_size: int = MISSING
    tied_embeddings: bool = False
    max_positions: int | None = None


@dataclass
class ModelConfig:
    """The policy: a folder in Hugging Face format, or a tiny model to make."""

    path: str | None = None
    tiny: TinyModelConfig | None = None
    cache_dir: str = "~/.cache/orchestra_ray"
    dtype: str = "bfloat16"
    chat_template: str = "qwen3"
    tool_parser: str = "hermes"
    attention: str = "sdpa"  # or flash_attention_2, which packs without padding
    shape: ShapeConfig | None = None  # for the plan, where the model is not on this disk
    parameters: int | None = None  # for the plan, where the shape does not give their number
    input_usd_per_mtok: float = 0.0  # what the policy's own tokens cost the episode
    output_usd_per_mtok: float = 0.0
    seconds_per_token: float | None = None  # None: the policy's time is measured


@dataclass
class FamilyConfig:
    """One reasoning-gym family with the settings of its generator."""

    name: str = MISSING
    topic: str = ""  # the word for it in the models' descriptions; warm-start thoughts name it
    settings: dict[str, int] = field(default_factory=dict)


@dataclass
class TasksConfig:
    """Where tasks come from, and which of them are held out.

    reasoning_gym makes them: train and held-out ones from disjoint ranges of generator seeds. Every
    other source reads a file; what is held out of it is decided by a hash of each question.
    """

    source: str = "reasoning_gym"
    families: list[FamilyConfig] = field(default_factory=list)  # of reasoning_gym, and warm starts
    train_seed: int = 0
    train_size: int = 100_000  # tasks a family
    heldout_seed: int = 1_000_000_000
    heldout_size: int = 1_000
    path: str | None = None  # of the file: lines of JSON, a JSON list, or Parquet
    heldout_path: str | None = None  # a file of held-out tasks; then none of `path` are held out
    heldout_share: float = 0.1  # of the tasks in `path`
    split_seed: int = 0
    judge: str | None = None  # of the tasks that name none; None: what the source's format says
    private: bool = False  # no file of a run may hold a question or an answer; hle is private


@dataclass
class JudgeConfig:
    """The LLM judge: a model of the catalogue, which stands in the ledger as `judge`."""

    model: str | None = None  # its entry, with backend endpoint; offered: false keeps it out
    temperature: float | None = 0.0  # None leaves it to a server that takes no other than its own
    tries: int = 3  # times an answer is shown to it, until a verdict can be read


@dataclass
class PreferenceConfig:
    """An instruction that stands in the prompt and the weights that stand in the reward."""

    name: str = MISSING
    instruction: str = MISSING
    outcome: float = 1.0
    cost: float = 0.0
    latency: float = 0.0
    tools: dict[str, float] = field(default_factory=dict)
    share: int = 1  # 2: as often as two of the others together, in training and measurement


@dataclass
class CatalogueConfig:
    """The models and tools on offer, and how a task's draw is made from them."""

    path: str = MISSING
    models_min: int = 3  # models in a draw, and choices of a tool that a model does
    models_max: int = 6
    aliases: bool = True  # hide which model is which behind model-1, model-2, ...
    price_sheets: list[str] = field(default_factory=list)  # a draw has one's; []: the file's own
    tools_json: str | None = None  # the released interface, word for word, from this copy of it
    price_factors: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])
    latency_factors: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])
    submit: bool = False  # offer `submit(reply)`, which answers with a reply as it stands
    preferences: list[PreferenceConfig] = field(default_factory=list)
    preferences_path: str | None = None  # more, from `orchestra preferences make`, with a split


@dataclass
class RolloutConfig:
    """Workers with a vLLM engine each, and the limits of an episode."""

    workers: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_worker: int = 0
    tensor_parallel: int = 1
    context: ContextPolicy = ContextPolicy.TRANSCRIPT
    rebuild_system: str = "You are good at using tools."  # the system message under `rebuild`
    rebuild_instruction: str = "Choose the tool that brings the solution nearer."  # its last line
    max_turns: int = 50
    max_prompt_tokens: int = 24_000
    max_response_tokens: int = 8_000  # a turn
    max_observation_tokens: int = 8_000  # a tool's answer; the rest is cut with a mark
    temperature: float = 1.0
    max_sequences: int = 256
    gpu_memory_utilization: float = 0.85
    cpu_kv_cache_gib: int = 1
    enforce_eager: bool = False
    episode_deadline_s: float = 3_600.0
    start_deadline_s: float = 900.0


@dataclass
class ToolsConfig:
    """The pool of CPU actors that run tool calls. A call's own limits stand in the catalogue."""

    actors: int = 2
    cpus_per_actor: float = 0.25
    start_deadline_s: float = 300.0  # for indexes and processes of the tools


@dataclass
class CassetteConfig:
    """What tools answered, in a file that a later run plays back without a call outside.

    All executors open the file, so it lies on a disk of their one machine: SQLite's locks do not
    reach over a network.
    """

    mode: CassetteMode = CassetteMode.LIVE
    path: str | None = None  # None: cassette.sqlite in the run's folder; to replay, give one
    latencies: Latencies = Latencies.RECORDED


@dataclass
class SpendConfig:
    """Hard limits on what tool and model calls may cost, and on their number; null sets none."""

    call_usd: float | None = None
    episode_usd: float | None = None
    step_usd: float | None = None
    run_usd: float | None = None
    episode_calls: int | None = None
    step_calls: int | None = None
    run_calls: int | None = None


@dataclass
class RewardWeightsConfig:
    """Of the preset `scalarised`: what one unit of each amount is worth, in reward."""

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
    turn_credit: bool = False  # a turn is charged what the episode spends from it on
    weights: RewardWeightsConfig = field(default_factory=RewardWeightsConfig)
    budget_usd: float | None = None  # of `budgeted`: the mean cost of an episode
    multiplier: float = 0.0  # of `budgeted`: where it starts
    multiplier_rate: float = 0.1  # of `budgeted`: how fast it follows the cost
    cpus: float = 0.25
    deadline_s: float = 300.0


@dataclass
class LossConfig:
    """The policy-gradient loss (paper section 3.2; SPEC section 4)."""

    surrogate: Surrogate = Surrogate.CLIP
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None  # bounds the loss of a negative advantage; not of cispo
    kl_coef: float = 0.0
    kl_estimator: KlEstimator = KlEstimator.K2
    entropy_coef: float = 0.0  # of the bonus for the entropy of each token's distribution
    measure_entropy: bool = False  # report it where the coefficient is 0 too
    importance_cap: float | None = None  # truncates pi_old / pi_behaviour; None leaves it out
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
    lr_warmup_steps: int = 0  # of the optimizer, over which the rate rises linearly to `lr`
    lr_final: float = 1.0  # the last step's rate as a share of `lr`; falls linearly
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    adam_eps: float = 1e-8  # beside the root of a gradient's mean square: smaller ones move little
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
    """The loop. `max_staleness: 0` is synchronous; more of it needs an importance cap."""

    steps: int = MISSING
    groups_per_step: int = 16
    group_size: int = 8
    max_staleness: int = 0
    sampling_factor: int = 1  # above 1: sample up to so many times the groups, until enough teach
    overlong: Overlong = Overlong.FILTER
    # Ends a run that trained nothing in so many steps in a row; 0 or null: never.
    idle_steps_max: int | None = 20
    overlong_margin: float = 0.2  # of `penalise`: the share before the limit where it grows
    checkpoint_every: int = 0  # steps; 0: only at the end
    keep_checkpoints: int = 2


@dataclass
class EvaluationConfig:
    """The held-out comparison: before and after training, and the baselines beside them.

    Who can be a baseline: see `orchestra_ray.evaluation.baselines`.
    """

    tasks: int = 0  # 0: no evaluation
    policy: bool = True  # whether the model itself is measured; without it no engine is started
    before: str | None = None  # of `eval`: a run of the start of training, for the row `before`
    tools: ToolMode = ToolMode.ALL
    preferences: list[str] = field(default_factory=list)  # the users' names; []: all held out
    turn_budgets: list[int] = field(default_factory=list)  # a further row for each
    baselines: list[str] = field(
        default_factory=lambda: ["random", "cheapest", "strongest", "oracle"]
    )
    seed: int = 12_345
    greedy: bool = True
    bootstrap: int = 1_000  # resamples for the confidence intervals


@dataclass
class TrackingConfig:
    wandb: WandbMode = WandbMode.AUTO
    wandb_project: str = "orchestra_ray"
    progress: bool = True


@dataclass
class ClusterConfig:
    """The Ray cluster: one that runs, or a local one that the command starts and stops."""

    address: str | None = None  # None: a local cluster; "auto": the one of this machine
    cpus: int | None = None  # of a local cluster; None: all
    object_store_mib: int = 512
    gpu_memory_gib: int = 80  # of one GPU, for the plan
    dashboard_port: int | None = None  # None: no dashboard


@dataclass
class Config:
    name: str = MISSING
    seed: int = 0
    runs_dir: str = "runs"
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    catalogue: CatalogueConfig = field(default_factory=CatalogueConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    tools: ToolsConfig = field(default_factory=ToolsConfig)
    cassette: CassetteConfig = field(default_factory=CassetteConfig)
    spend: SpendConfig = field(default_factory=SpendConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
