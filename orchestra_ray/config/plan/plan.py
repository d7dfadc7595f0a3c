"""The plan of a run: the resources that it needs and the volume of a step. No Ray.

Volumes are upper bounds: every episode of a step reaches its token limit.
"""

from dataclasses import dataclass
from pathlib import Path

from orchestra_ray.config.derived import context_tokens
from orchestra_ray.config.enums import ZeroStage
from orchestra_ray.config.plan.bundles import Bundle, bundles
from orchestra_ray.config.plan.memory import (
    DTYPE_BYTES,
    ENGINE_RESERVE_BYTES,
    GIB,
    LEARNER_RESERVE_BYTES,
    LOGITS_CHUNK_TOKENS,
    EngineMemory,
    RankMemory,
    engine_memory,
    rank_memory,
)
from orchestra_ray.config.plan.shape import model_shape, parameter_count
from orchestra_ray.config.schema import Config

TRAJECTORY_BYTES_PER_TOKEN = 4 + 1 + 4 + 4  # id, mask, log-probability, weight version
MIB = 2**20


@dataclass(frozen=True, slots=True)
class StepVolume:
    """Upper bounds of one step."""

    episodes: int
    tokens: int
    trajectory_bytes: int
    weight_bytes: int
    buckets: int
    store_bytes: int  # in the object store at once


@dataclass(frozen=True, slots=True)
class Plan:
    """Bundles, memory and volumes of a run, with the assumptions and the problems."""

    name: str
    parameters: int
    context_tokens: int
    bundles: tuple[Bundle, ...]
    learner: RankMemory
    learner_label: str
    engine: EngineMemory
    engine_label: str
    step: StepVolume
    assumptions: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def cpus(self) -> float:
        return sum(bundle.all_cpus for bundle in self.bundles)

    @property
    def gpus(self) -> int:
        return sum(bundle.all_gpus for bundle in self.bundles)


def make_plan(config: Config) -> Plan:
    """Returns the plan of a checked configuration.

    Raises `BadValue` if the model's dimensions are unknown.
    """
    shape, model = model_shape(config), config.model
    parameters = model.parameters or parameter_count(shape)
    learner = rank_memory(shape, parameters, config.learner, model.dtype)
    engine = engine_memory(
        shape, parameters, config.rollout, model.dtype, config.cluster.gpu_memory_gib
    )
    step = step_volume(config, parameters)
    return Plan(
        name=config.name,
        parameters=parameters,
        context_tokens=context_tokens(config),
        bundles=bundles(config),
        learner=learner,
        learner_label=_learner_label(config),
        engine=engine,
        engine_label=f"tensor parallel {config.rollout.tensor_parallel}, {model.dtype}",
        step=step,
        assumptions=_assumptions(config),
        problems=_problems(config, learner, engine, step),
    )


def step_volume(config: Config, parameters: int) -> StepVolume:
    """Returns the episodes, tokens and bytes of one step.

    The object store holds the trajectories of the step and of older steps that are not too stale,
    and two versions of the weights: one being read, one being written.
    """
    training = config.training
    episodes = training.groups_per_step * training.group_size
    tokens = episodes * context_tokens(config)
    trajectories = tokens * TRAJECTORY_BYTES_PER_TOKEN
    weights = parameters * DTYPE_BYTES[config.model.dtype]
    return StepVolume(
        episodes=episodes,
        tokens=tokens,
        trajectory_bytes=trajectories,
        weight_bytes=weights,
        buckets=-(-weights // (config.weights.bucket_mib * MIB)),
        store_bytes=(1 + training.max_staleness) * trajectories + 2 * weights,
    )


def _learner_label(config: Config) -> str:
    learner = config.learner
    extras = [
        text
        for text, on in (
            ("optimizer offloaded", learner.offload_optimizer),
            ("gradient checkpointing", learner.gradient_checkpointing),
        )
        if on
    ]
    label = f"ZeRO-{learner.zero_stage.value} over {learner.ranks} ranks, {config.model.dtype}"
    return ", ".join([label, *extras])


def _assumptions(config: Config) -> tuple[str, ...]:
    model, learner, rollout = config.model, config.learner, config.rollout
    lines = []
    if learner.gpus_per_rank or rollout.gpus_per_worker:
        lines.append(f"a GPU has {config.cluster.gpu_memory_gib} GiB (cluster.gpu_memory_gib)")
    if learner.gpus_per_rank:
        reserve = LEARNER_RESERVE_BYTES // GIB
        lines.append(f"{reserve} GiB of a learner GPU for CUDA, NCCL, buckets and fragmentation")
    if rollout.gpus_per_worker:
        reserve = ENGINE_RESERVE_BYTES // GIB
        lines.append(f"{reserve} GiB of a rollout GPU for vLLM's activations and CUDA graphs")
    if model.path is not None and not Path(model.path).exists():
        lines.append(f"{model.path} has the dimensions of model.shape, as it is no folder here")
    if model.parameters is not None:
        lines.append(f"the model has {model.parameters} parameters (model.parameters)")
    lines += [
        "a Qwen3-like decoder: grouped queries, gated MLP, fused attention that stores no scores",
        "Adam with fp32 master weights and moments, gradients in the model's dtype",
        f"logits in chunks of {LOGITS_CHUNK_TOKENS} tokens, recomputed in the backward pass",
        "every episode of a step reaches its token limit",
    ]
    if learner.zero_stage == ZeroStage.THREE:
        lines.append("ZeRO-3 keeps at most a billion gathered parameters (DeepSpeed's default)")
    return tuple(lines)


def _problems(
    config: Config, learner: RankMemory, engine: EngineMemory, step: StepVolume
) -> tuple[str, ...]:
    found = []
    gpu_bytes = config.cluster.gpu_memory_gib * GIB
    if config.learner.gpus_per_rank and learner.peak + LEARNER_RESERVE_BYTES > gpu_bytes:
        found.append(
            "a learner rank does not fit its GPU: raise learner.ranks or learner.zero_stage, set"
            " gradient_checkpointing or offload_optimizer, or lower tokens_per_microbatch"
        )
    if engine.kv_tokens < context_tokens(config):
        knob = "tensor_parallel" if config.rollout.gpus_per_worker else "cpu_kv_cache_gib"
        found.append(
            "the KV cache of a rollout worker is smaller than one trajectory: raise"
            f" rollout.{knob} or lower rollout.max_prompt_tokens"
        )
    if config.cluster.address is None and step.store_bytes > config.cluster.object_store_mib * MIB:
        found.append(
            "a step does not fit the object store of the local cluster: raise"
            f" cluster.object_store_mib to {-(-step.store_bytes // MIB)}"
        )
    return tuple(found)
