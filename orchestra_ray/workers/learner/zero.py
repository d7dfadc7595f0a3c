"""DeepSpeed's settings, and how a process becomes a rank.

Everything here must run in every rank in the same order.
"""

import os
from datetime import timedelta
from typing import Any

import deepspeed
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from orchestra_ray.config.schema import Config, ModelConfig, ZeroStage

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_REDUCE_BUCKET_ELEMENTS = 500_000_000


def join(
    rank: int,
    world_size: int,
    master_addr: str,
    master_port: int,
    device: torch.device,
    deadline_s: float,
) -> None:
    """Makes this process a rank of the default process group.

    A collective that waits longer than `deadline_s` for another rank raises. Each rank sees one
    GPU at most, so the local rank is 0 everywhere.
    """
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": "0",
        "LOCAL_SIZE": "1",
        "MASTER_ADDR": master_addr,
        "MASTER_PORT": str(master_port),
    }
    # The one op that DeepSpeed compiles here is a shared-memory all-reduce for tensor-parallel
    # inference. Without it no compiler is needed, and gloo does the same.
    deepspeed.ops.__dict__["__compatible_ops__"] = {}
    deepspeed.init_distributed(
        "gloo" if device.type == "cpu" else "nccl",
        auto_mpi_discovery=False,
        verbose=False,
        timeout=timedelta(seconds=deadline_s),
    )


def dtype_of(config: ModelConfig) -> torch.dtype:
    """Raises ValueError for a dtype that cannot be trained in without a loss scale."""
    if config.dtype not in _DTYPES:
        raise ValueError(f"model.dtype is {config.dtype!r}; the learner takes {', '.join(_DTYPES)}")
    return _DTYPES[config.dtype]


def training_settings(config: Config, parameters: int, hidden_size: int) -> dict[str, Any]:
    """Of an engine that trains. The learner sets the boundaries of accumulation itself."""
    learner = config.learner
    zero: dict[str, Any] = {
        "stage": learner.zero_stage.value,
        "overlap_comm": False,
        "reduce_bucket_size": min(_REDUCE_BUCKET_ELEMENTS, parameters),
        "stage3_param_persistence_threshold": 10 * hidden_size,  # norms and biases stay whole
    }
    if learner.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": learner.gpus_per_rank > 0}
    return _common(config) | {
        "zero_optimization": zero,
        "gradient_clipping": learner.grad_clip,
        # sums over many micro-batches lose low bits in bfloat16
        "data_types": {"grad_accum_dtype": "fp32"},
    }


def frozen_settings(config: Config) -> dict[str, Any]:
    """Of an engine that only shards a frozen model's parameters."""
    return _common(config) | {"zero_optimization": {"stage": ZeroStage.THREE.value}}


def make_optimizer(module: nn.Module, config: Config) -> torch.optim.Optimizer:
    """AdamW; DeepSpeed's own on the CPU, compiled at its first use, where the states live there."""
    learner = config.learner
    settings: dict[str, Any] = {
        "lr": learner.lr,
        "betas": (learner.beta1, learner.beta2),
        "eps": learner.adam_eps,
        "weight_decay": learner.weight_decay,
    }
    if learner.offload_optimizer:
        return deepspeed.ops.adam.DeepSpeedCPUAdam(list(module.parameters()), **settings)
    return torch.optim.AdamW(module.parameters(), **settings)


def make_schedule(optimizer: torch.optim.Optimizer, config: Config) -> LambdaLR:
    """Up from the first step, since Adam's are of full size at once; then down; both linear."""
    learner = config.learner
    last_step = max(1, config.training.steps * learner.minibatches - 1)

    def share(step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, learner.lr_warmup_steps))
        return warm * (1 - (1 - learner.lr_final) * min(1.0, step / last_step))

    return LambdaLR(optimizer, share)


def _common(config: Config) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "steps_per_print": None,
        "bf16": {"enabled": dtype_of(config.model) is torch.bfloat16},
    }
