"""Intervals and choices of single values, as tables. None is an unset option and always valid."""

from typing import Any, Literal, get_args

from orchestra_ray.config.errors import BadValue
from orchestra_ray.config.schema import Config

Dtype = Literal["bfloat16", "float32"]
Attention = Literal["sdpa", "flash_attention_2", "eager"]
ChatTemplate = Literal["qwen3"]
ToolParser = Literal["hermes"]
TaskSourceName = Literal["reasoning_gym", "jsonl", "gsm8k", "frames", "hle", "math", "hotpotqa"]
PlainGrader = Literal["exact", "number", "math", "choice", "code", "hotpotqa", "hotpotqa_f1"]
LlmJudge = Literal["llm", "paper", "hle", "frames"]
JudgeName = Literal[PlainGrader, LlmJudge]
RewardPreset = Literal["paper", "released", "gdpo", "scalarised", "budgeted"]
Estimator = Literal["paper", "released", "grpo", "dr_grpo", "rloo", "reinforce_pp", "gdpo"]
WeightBackend = Literal["object_store"]

_CHOICES: dict[str, Any] = {
    "model.dtype": Dtype,
    "model.attention": Attention,
    "model.chat_template": ChatTemplate,
    "model.tool_parser": ToolParser,
    "tasks.source": TaskSourceName,
    "tasks.judge": JudgeName,
    "reward.preset": RewardPreset,
    "reward.advantage": Estimator,
    "weights.backend": WeightBackend,
}

# Intervals and their keys. Square brackets include the end.
_INTERVALS: dict[str, str] = {
    "[0, inf)": """
        model.input_usd_per_mtok model.output_usd_per_mtok model.seconds_per_token
        model.tiny.warmup_steps tasks.train_seed tasks.heldout_seed judge.temperature
        rollout.gpus_per_worker tools.cpus_per_actor reward.cpus
        spend.call_usd spend.episode_usd spend.step_usd spend.run_usd
        spend.episode_calls spend.step_calls spend.run_calls
        learner.weight_decay learner.lr_warmup_steps learner.loss.kl_coef learner.loss.entropy_coef
        reward.multiplier reward.multiplier_rate
        training.max_staleness training.idle_steps_max training.checkpoint_every
        evaluation.tasks evaluation.seed
    """,
    "[1, inf)": """
        cluster.cpus cluster.gpu_memory_gib
        model.parameters model.shape.layers model.shape.hidden_size
        model.shape.intermediate_size model.shape.heads model.shape.kv_heads
        model.shape.head_dim model.shape.vocab_size model.shape.max_positions
        model.tiny.hidden_size model.tiny.intermediate_size model.tiny.layers
        model.tiny.heads model.tiny.kv_heads model.tiny.warmup_batch
        tasks.train_size tasks.heldout_size catalogue.models_min catalogue.models_max
        rollout.workers rollout.tensor_parallel rollout.max_turns rollout.max_prompt_tokens
        rollout.max_response_tokens rollout.max_observation_tokens rollout.max_sequences
        rollout.cpu_kv_cache_gib tools.actors
        learner.ranks learner.loss.constant_tokens learner.minibatches learner.tokens_per_microbatch
        judge.tries
        weights.bucket_mib training.steps training.groups_per_step
        training.sampling_factor training.keep_checkpoints
        evaluation.bootstrap
    """,
    "(0, inf)": """
        model.tiny.warmup_lr rollout.cpus_per_worker rollout.temperature
        rollout.episode_deadline_s rollout.start_deadline_s tools.start_deadline_s
        reward.deadline_s reward.budget_usd reward.advantage_clip learner.cpus_per_rank
        learner.lr learner.adam_eps learner.grad_clip
        learner.start_deadline_s learner.step_deadline_s learner.loss.clip_high
        learner.loss.importance_cap weights.deadline_s
    """,
    "[0, 1]": "learner.gpus_per_rank learner.lr_final tasks.heldout_share",
    "(0, 1]": "training.overlong_margin rollout.gpu_memory_utilization",
    "[0, 1)": "learner.beta1 learner.beta2",
    "(0, 1)": "learner.loss.clip_low",
    "(1, inf)": "learner.loss.dual_clip",
    "[2, inf)": "training.group_size",  # an advantage compares the episodes of a group
    "[80, inf)": "cluster.object_store_mib",  # Ray refuses less
    "[300, inf)": "model.tiny.vocab_size",  # 256 bytes and the special tokens
    "[1, 65535]": "cluster.dashboard_port",
}


def check_ranges(config: Config) -> None:
    """Raises `BadValue` for the first value outside its interval or its choices."""
    for key, choices in _CHOICES.items():
        check_choice(key, value_at(config, key), get_args(choices))
    for interval, keys in _INTERVALS.items():
        for key in keys.split():
            check_interval(key, value_at(config, key), interval)


def check_choice(key: str, value: str | list[str] | None, choices: tuple[str, ...]) -> None:
    names = value if isinstance(value, list) else [value] if value is not None else []
    for name in names:
        if name not in choices:
            raise BadValue(key, f"{name!r} is unknown", f"choose from {', '.join(choices)}")


def check_interval(key: str, value: float | None, interval: str) -> None:
    """Raises `BadValue` unless `value` is None or in `interval`, such as "[0, 1)"."""
    if value is None:
        return
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = value >= low if interval[0] == "[" else value > low
    below = value <= high if interval[-1] == "]" else value < high
    if not (above and below):
        raise BadValue(key, f"{value} is out of range", f"give a value in {interval}")


def value_at(config: Config, key: str) -> Any:
    """Returns the value of a dotted key; None if an optional section on its path is absent."""
    node: Any = config
    for name in key.split("."):
        node = None if node is None else getattr(node, name)
    return node
