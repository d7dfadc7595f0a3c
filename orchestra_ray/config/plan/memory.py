"""Memory of a learner rank and of an inference engine: closed formulas over the model's shape.

Sources. ZeRO: Rajbhandari et al., arXiv 1910.02054, section 5 and figure 1. Offload: Ren et al.,
arXiv 2101.06840, section 3. Activations: Korthikanti et al., arXiv 2205.05198, sections 4 and 5.
Letters: P parameters, N ranks, b bytes of the model's dtype.
"""

from dataclasses import dataclass

from orchestra_ray.config.enums import ZeroStage
from orchestra_ray.config.learning import LearnerConfig
from orchestra_ray.config.schema import RolloutConfig, ShapeConfig

GIB = 2**30
DTYPE_BYTES = {"bfloat16": 2, "float32": 4}
MASTER_BYTES, ADAM_BYTES, STEP_GRADIENT_BYTES = 4, 8, 4  # fp32, per element
ZERO3_LIVE_PARAMETERS = 1_000_000_000  # DeepSpeed's default of stage3_max_live_parameters
LOGITS_CHUNK_TOKENS = 1_024  # of orchestra_ray.workers.learner.logprobs
LEARNER_RESERVE_BYTES = 6 * GIB  # CUDA context, NCCL, DeepSpeed's buckets, fragmentation
ENGINE_RESERVE_BYTES = 4 * GIB  # vLLM's activation peak and CUDA graphs


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Memory of one learner rank in bytes on its device; `host`: offloaded bytes in host memory."""

    weights: int
    gradients: int
    optimizer: int
    gathered: int  # parameters of other ranks in use, ZeRO-3
    activations: int
    logits: int
    step: int  # fp32 copy of the rank's gradients while the optimizer steps
    host: int

    @property
    def peak(self) -> int:
        """The peak on the device; the step's gradients follow after activations are freed."""
        transient = self.gathered + self.activations + self.logits
        return self.weights + self.gradients + self.optimizer + max(transient, self.step)


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """Memory of one inference engine, in bytes on each of its devices."""

    weights: int
    kv_per_token: int
    kv_cache: int

    @property
    def kv_tokens(self) -> int:
        return self.kv_cache // self.kv_per_token


def rank_memory(
    shape: ShapeConfig, parameters: int, learner: LearnerConfig, dtype: str
) -> RankMemory:
    """Returns model states by ZeRO stage, activations of a micro-batch, and logits of a chunk.

    Weights b P, gradients b P, optimizer 12 P (fp32 master, Adam's two moments). Stage 1 divides
    the optimizer by N, stage 2 also the gradients, stage 3 also the weights. With offload the
    optimizer and fp32 gradients are in host memory, and from stage 2 no gradients on the device.
    """
    size, ranks, stage = DTYPE_BYTES[dtype], learner.ranks, learner.zero_stage
    whole = size * parameters
    optimizer = _ceil_div((MASTER_BYTES + ADAM_BYTES) * parameters, ranks)
    step = _ceil_div(STEP_GRADIENT_BYTES * parameters, ranks)
    gradients = whole if stage == ZeroStage.ONE else _ceil_div(whole, ranks)
    offload, stays = learner.offload_optimizer, stage == ZeroStage.ONE
    gathered = size * min(parameters, ZERO3_LIVE_PARAMETERS) if stage == ZeroStage.THREE else 0
    return RankMemory(
        weights=_ceil_div(whole, ranks) if stage == ZeroStage.THREE else whole,
        gradients=gradients if not offload or stays else 0,
        optimizer=0 if offload else optimizer,
        gathered=gathered,
        activations=activation_bytes(shape, learner, size),
        logits=min(LOGITS_CHUNK_TOKENS, learner.tokens_per_microbatch) * _logit_bytes(shape, size),
        step=0 if offload else step,
        host=optimizer + step if offload else 0,
    )


def activation_bytes(shape: ShapeConfig, learner: LearnerConfig, size: int) -> int:
    """Returns the bytes that the forward pass of one micro-batch keeps for the backward pass.

    A layer keeps these elements per token: inputs and outputs of its two norms (4 hidden),
    queries and keys before and after their norm and after rotation, values, attention's output (4
    times the width of queries, 4 times that of keys), gate, activated gate, up and product (4
    intermediate). Attention scores are not kept. With gradient checkpointing only the inputs of
    the layers are kept, and one layer is recomputed at a time.
    """
    width = (shape.heads + shape.kv_heads) * shape.head_dim
    layer = 4 * (shape.hidden_size + width + shape.intermediate_size)
    if learner.gradient_checkpointing:
        kept = shape.layers * shape.hidden_size + layer
    else:
        kept = shape.layers * layer
    return size * kept * learner.tokens_per_microbatch


def engine_memory(
    shape: ShapeConfig, parameters: int, rollout: RolloutConfig, dtype: str, gpu_memory_gib: int
) -> EngineMemory:
    """Returns the memory of a device; tensor parallelism divides weights, keys and values.

    With more devices than key heads, a head is replicated.
    """
    size, split = DTYPE_BYTES[dtype], rollout.tensor_parallel
    weights = _ceil_div(size * parameters, split)
    kv_per_token = 2 * size * shape.layers * _ceil_div(shape.kv_heads, split) * shape.head_dim
    if rollout.gpus_per_worker == 0:
        return EngineMemory(weights, kv_per_token, rollout.cpu_kv_cache_gib * GIB)
    usable = int(rollout.gpu_memory_utilization * gpu_memory_gib * GIB)
    kv_cache = max(0, usable - weights - ENGINE_RESERVE_BYTES)
    return EngineMemory(weights, kv_per_token, kv_cache)


def _logit_bytes(shape: ShapeConfig, size: int) -> int:
    """Returns the bytes of a token's logits in the model's dtype and in fp32, with gradients."""
    return 2 * (size + 4) * shape.vocab_size


def _ceil_div(amount: int, parts: int) -> int:
    return -(-amount // parts)
