"""DeepSpeed's settings, and joining the process group.

All functions must run on every rank in the same order.
"""

import os
from datetime import timedelta
from typing import Any

import deepspeed
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from orchestra_ray.config.enums import ZeroStage
from orchestra_ray.config.schema import Config, ModelConfig

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

    A collective that waits longer than `deadline_s` for another rank raises. A rank has at most
    one visible GPU, so the local rank is always 0.
    """
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_RANK": "0",
        "LOCAL_SIZE": "1",
        "MASTER_ADDR": master_addr,
        "MASTER_PORT": str(master_port),
    }
    # The only op that DeepSpeed would compile here is a shared-memory all-reduce for
    # tensor-parallel inference. Without it no compiler is needed; gloo replaces it.
    deepspeed.ops.__dict__["__compatible_ops__"] = {}
    deepspeed.init_distributed(
        "gloo" if device.type == "cpu" else "nccl",
        auto_mpi_discovery=False,
        verbose=False,
        timeout=timedelta(seconds=deadline_s),
    )


def dtype_of(config: ModelConfig) -> torch.dtype:
    """Returns the training dtype; raises ValueError for one that needs a loss scale."""
    if config.dtype not in _DTYPES:
        raise ValueError(f"model.dtype is {config.dtype!r}; the learner takes {', '.join(_DTYPES)}")
    return _DTYPES[config.dtype]


def training_settings(config: Config, parameters: int, hidden_size: int) -> dict[str, Any]:
    """Returns the settings for training; the caller sets the accumulation boundaries."""
    learner = config.learner
    zero: dict[str, Any] = {
        "stage": learner.zero_stage.value,
        "overlap_comm": False,
        "reduce_bucket_size": min(_REDUCE_BUCKET_ELEMENTS, parameters),
        "stage3_param_persistence_threshold": 10 * hidden_size,  # norms and biases are not sharded
    }
    if learner.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": learner.gpus_per_rank > 0}
    return _common(config) | {
        "zero_optimization": zero,
        "gradient_clipping": learner.grad_clip,
        # Sums over many micro-batches lose precision in bfloat16.
        "data_types": {"grad_accum_dtype": "fp32"},
    }


def frozen_settings(config: Config) -> dict[str, Any]:
    """Returns the settings for sharding the parameters of a frozen model."""
    return _common(config) | {"zero_optimization": {"stage": ZeroStage.THREE.value}}


def make_optimizer(module: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Returns AdamW; with offload, DeepSpeed's CPU version, which is compiled at first use."""
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
    """Returns a schedule of linear warm-up and linear decay.

    Warm-up begins with the first step, since Adam's steps have full size from the start.
    """
    learner = config.learner
    last_step = max(1, config.training.steps * learner.minibatches - 1)

    def factor(step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, learner.lr_warmup_steps))
        return warm * (1 - (1 - learner.lr_final) * min(1.0, step / last_step))

    return LambdaLR(optimizer, factor)


def _common(config: Config) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "steps_per_print": None,
        "bf16": {"enabled": dtype_of(config.model) is torch.bfloat16},
    }
