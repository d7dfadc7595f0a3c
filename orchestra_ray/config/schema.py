"""The configuration as dataclasses: every key, its type, its default and its unit.

`MISSING` marks a value that a file must give. OmegaConf checks types, `ranges.py` intervals and
choices, `validation.py` combinations. `learning.py` has the sections of reward, loss and loop.
"""

from dataclasses import dataclass, field

from omegaconf import MISSING

from orchestra_ray.config.enums import (
    CassetteMode,
    ContextPolicy,
    Latencies,
    ToolMode,
    WandbMode,
)
from orchestra_ray.config.learning import (
    LearnerConfig,
    RewardConfig,
    TrainingConfig,
    WeightsConfig,
)


@dataclass
class TinyModelConfig:
    """A small Qwen3 model, built at the start and warm-started on demonstrations."""

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
    """Dimensions of a Qwen3-like decoder, for the plan of a model that is not on this disk."""

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
    """The policy: a folder in Hugging Face format, or a tiny model that is built."""

    path: str | None = None
    tiny: TinyModelConfig | None = None
    cache_dir: str = "~/.cache/orchestra_ray"
    dtype: str = "bfloat16"
    chat_template: str = "qwen3"
    tool_parser: str = "hermes"
    attention: str = "sdpa"  # or flash_attention_2, which packs without padding
    shape: ShapeConfig | None = None  # for the plan, if the model is not on this disk
    parameters: int | None = None  # for the plan, if the shape does not give their number
    input_usd_per_mtok: float = 0.0  # price of the policy's own tokens
    output_usd_per_mtok: float = 0.0
    seconds_per_token: float | None = None  # None: the policy's time is measured


@dataclass
class FamilyConfig:
    """One reasoning-gym family with the settings of its generator."""

    name: str = MISSING
    topic: str = ""  # its word in the models' descriptions and the warm start's thoughts
    settings: dict[str, int] = field(default_factory=dict)


@dataclass
class TasksConfig:
    """Where tasks come from, and which of them are held out.

    The source reasoning_gym generates training and held-out tasks from disjoint ranges of seeds.
    Every other source reads a file and holds tasks out by a hash of the question.
    """

    source: str = "reasoning_gym"
    families: list[FamilyConfig] = field(default_factory=list)  # of reasoning_gym, and warm starts
    train_seed: int = 0
    train_size: int = 100_000  # tasks a family
    heldout_seed: int = 1_000_000_000
    heldout_size: int = 1_000
    path: str | None = None  # a file of JSON lines, a JSON list, or Parquet
    heldout_path: str | None = None  # a file of held-out tasks; then none of `path` is held out
    heldout_share: float = 0.1  # of the tasks in `path`
    split_seed: int = 0
    judge: str | None = None  # for tasks that name none; None: the default of the source's format
    private: bool = False  # keep questions and answers out of every file of a run; hle always is


@dataclass
class JudgeConfig:
    """The LLM judge: a model of the catalogue; its calls are in the ledger under `judge`."""

    model: str | None = None  # a catalogue entry with backend endpoint; `offered: false` hides it
    temperature: float | None = 0.0  # None: not sent, for servers that refuse a temperature
    tries: int = 3  # calls for one answer, until a verdict can be parsed


@dataclass
class PreferenceConfig:
    """A user preference: the instruction in the prompt, and the weights of the reward."""

    name: str = MISSING
    instruction: str = MISSING
    outcome: float = 1.0
    cost: float = 0.0
    latency: float = 0.0
    tools: dict[str, float] = field(default_factory=dict)
    share: int = 1  # relative frequency, in training and evaluation


@dataclass
class CatalogueConfig:
    """The models and tools, and how the toolset of a task is sampled from them."""

    path: str = MISSING
    models_min: int = 3  # models in a toolset, and choices of a tool that runs on a model
    models_max: int = 6
    aliases: bool = True  # hide the models behind the aliases model-1, model-2, ...
    price_sheets: list[str] = field(default_factory=list)  # one per toolset; []: none
    tools_json: str | None = None  # a copy of the released code's tools.json, used verbatim
    price_factors: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])
    latency_factors: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])
    submit: bool = False  # offer `submit(reply)`, which answers with a reply unchanged
    preferences: list[PreferenceConfig] = field(default_factory=list)
    preferences_path: str | None = None  # further ones, from `orchestra preferences make`


@dataclass
class RolloutConfig:
    """Workers, each with a vLLM engine, and the limits of an episode."""

    workers: int = 1
    cpus_per_worker: float = 1.0
    gpus_per_worker: int = 0
    tensor_parallel: int = 1
    context: ContextPolicy = ContextPolicy.TRANSCRIPT
    rebuild_system: str = "You are good at using tools."  # the system message under `rebuild`
    rebuild_instruction: str = (
        "Choose the tool that brings the solution nearer."  # the last line there
    )
    max_turns: int = 50
    max_prompt_tokens: int = 24_000
    max_response_tokens: int = 8_000  # a turn
    max_observation_tokens: int = 8_000  # of a tool's reply; its middle is cut, with a mark
    temperature: float = 1.0
    max_sequences: int = 256
    gpu_memory_utilization: float = 0.85
    cpu_kv_cache_gib: int = 1
    enforce_eager: bool = False
    episode_deadline_s: float = 3_600.0
    start_deadline_s: float = 900.0


@dataclass
class ToolsConfig:
    """The pool of CPU actors that run tool calls. The limits of a call are in the catalogue."""

    actors: int = 2
    cpus_per_actor: float = 0.25
    start_deadline_s: float = 300.0  # for indexes and processes of the tools


@dataclass
class CassetteConfig:
    """A recording of tool calls, which a later run replays without external calls.

    All executors open the file, so they must run on one machine and the file must be on its local
    disk: SQLite's locks do not work over a network.
    """

    mode: CassetteMode = CassetteMode.LIVE
    path: str | None = None  # None: cassette.sqlite in the run's folder; a replay needs a path
    latencies: Latencies = Latencies.RECORDED


@dataclass
class SpendConfig:
    """Hard limits on the cost and the number of tool and model calls; null: no limit."""

    call_usd: float | None = None
    episode_usd: float | None = None
    step_usd: float | None = None
    run_usd: float | None = None
    episode_calls: int | None = None
    step_calls: int | None = None
    run_calls: int | None = None


@dataclass
class EvaluationConfig:
    """The held-out comparison of the policy, before and after training, with baselines.

    The names of baselines: see `orchestra_ray.evaluation.baselines`.
    """

    tasks: int = 0  # 0: no evaluation
    policy: bool = True  # evaluate the model itself; if false, no engine is started
    before: str | None = None  # of `eval`: a run of the initial policy, for the row `before`
    tools: ToolMode = ToolMode.ALL
    preferences: list[str] = field(default_factory=list)  # by name; []: all held-out ones
    turn_budgets: list[int] = field(default_factory=list)  # one further row each
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
    """The Ray cluster: a running one, or a local one for the duration of the command."""

    address: str | None = None  # None: a local cluster; "auto": the one on this machine
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
