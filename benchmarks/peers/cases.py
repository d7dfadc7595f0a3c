"""Inputs and settings for this project and its peers, and this project's results.

Everything is float64. A `LossCase` has the keys of `LossConfig` under `ours`, and the peers' own
names of the same settings under `verl` and `trl`; None if the peer has no such loss.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from orchestra_ray.config.enums import Aggregation, KlEstimator, Surrogate
from orchestra_ray.config.learning import LossConfig
from orchestra_ray.workers.learner.loss import policy_loss

SEED = 20261124
ROWS, LENGTH = 5, 8
CONSTANT = 16  # Dr. GRPO's fixed length
GROUPS, GROUP_SIZE = 4, 6
# of GDPO: weight, and whether less is better
OBJECTIVES = {
    "calls": (0.3, False),
    "right": (0.6, False),
    "usd": (1.0, True),
    "seconds": (0.4, True),
}
_ENUMS = {"surrogate": Surrogate, "aggregation": Aggregation, "kl_estimator": KlEstimator}


@dataclass(frozen=True)
class Outcome:
    """A loss, its gradient in each log-probability, and the clipped fractions if reported."""

    loss: float
    gradient: list[list[float]]
    stats: Mapping[str, float]


@dataclass(frozen=True)
class LossCase:
    name: str
    ours: Mapping[str, Any]
    verl: Mapping[str, Any] | None = None
    trl: Mapping[str, Any] | None = None


_HIGHER = {"clip_low": 0.2, "clip_high": 0.28}
_V_HIGHER = {"clip_ratio_low": 0.2, "clip_ratio_high": 0.28}
_T_HIGHER = {"epsilon_low": 0.2, "epsilon_high": 0.28}
_NO_DUAL = {"clip_ratio_c": 1e9}  # verl always has a dual clip
_BY_SEQUENCE = {"loss_agg_mode": "seq-mean-token-mean"}
_BY_CONSTANT = {"loss_agg_mode": "seq-mean-token-sum-norm", "loss_scale_factor": CONSTANT}

LOSSES = [
    LossCase(
        "clip, token mean",
        {},
        {"loss": "vanilla", **_NO_DUAL},
        {"loss_type": "dapo"},
    ),
    LossCase(
        "clip-higher, token mean",
        _HIGHER,
        {"loss": "vanilla", **_V_HIGHER, **_NO_DUAL},
        {"loss_type": "dapo", **_T_HIGHER},
    ),
    LossCase(
        "clip-higher, dual clip, token mean",
        {**_HIGHER, "dual_clip": 1.5},
        {"loss": "vanilla", **_V_HIGHER, "clip_ratio_c": 1.5},
        {"loss_type": "dapo", **_T_HIGHER, "delta": 1.5},
    ),
    LossCase(
        "clip, sequence mean",
        {"aggregation": "sequence"},
        {"loss": "vanilla", **_NO_DUAL, **_BY_SEQUENCE},
        {"loss_type": "grpo"},
    ),
    LossCase(
        "clip, constant (Dr. GRPO)",
        {"aggregation": "constant", "constant_tokens": CONSTANT},
        {"loss": "vanilla", **_NO_DUAL, **_BY_CONSTANT},
        {"loss_type": "dr_grpo"},
    ),
    LossCase(
        "clip, importance weights up to 2",
        {"importance_cap": 2.0},
        {"loss": "vanilla", **_NO_DUAL},
        {"loss_type": "dapo"},
    ),
    LossCase(
        "GSPO",
        {"surrogate": "gspo", "clip_low": 0.03, "clip_high": 0.04, "aggregation": "sequence"},
        {"loss": "gspo", "clip_ratio_low": 0.03, "clip_ratio_high": 0.04, **_BY_SEQUENCE},
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon_low": 0.03,
            "epsilon_high": 0.04,
        },
    ),
    LossCase(
        "GSPO, token mean",
        {"surrogate": "gspo", **_HIGHER},
        {"loss": "gspo", **_V_HIGHER},
    ),
    LossCase(
        "CISPO",
        {"surrogate": "cispo", **_HIGHER},
        {"loss": "cispo", **_V_HIGHER},
    ),
    LossCase(
        "CISPO without a lower bound",
        {"surrogate": "cispo", "clip_low": 0.999, "clip_high": 1.0},
        {"loss": "cispo", "clip_ratio_low": 0.999, "clip_ratio_high": 1.0},
        {"loss_type": "cispo", "epsilon_high": 2.0},  # theirs is the bound itself
    ),
    *(
        LossCase(
            f"clip, {estimator} KL",
            {"kl_coef": 0.1, "kl_estimator": estimator},
            {"loss": "vanilla", **_NO_DUAL, "kl_loss_coef": 0.1, "kl_loss_type": estimator},
            {"loss_type": "dapo", "beta": 0.1} if estimator == "k3" else None,
        )
        for estimator in ("k1", "k2", "k3")
    ),
    LossCase(
        "clip, sequence mean, k3 KL",
        {"aggregation": "sequence", "kl_coef": 0.04, "kl_estimator": "k3"},
        {
            "loss": "vanilla",
            **_NO_DUAL,
            **_BY_SEQUENCE,
            "kl_loss_coef": 0.04,
            "kl_loss_type": "low_var_kl",
        },
        {"loss_type": "grpo", "beta": 0.04},
    ),
    LossCase(
        "clip, entropy bonus",
        {"entropy_coef": 0.01},
        {"loss": "vanilla", **_NO_DUAL, "entropy_coeff": 0.01},
        {"loss_type": "dapo", "entropy_coef": 0.01},
    ),
]


def loss_inputs(seed: int = SEED) -> dict[str, Any]:
    """Returns plain lists, which serialize to JSON; every row has response tokens."""
    rng = np.random.default_rng(seed)

    def near(values: np.ndarray, by: float) -> np.ndarray:
        return np.minimum(values + rng.normal(0, by, values.shape), -1e-3).round(4)

    logp = near(-rng.exponential(1.0, (ROWS, LENGTH)), 0.0)
    mask = rng.random((ROWS, LENGTH)) < 0.7
    mask[:, 0] = True
    return {
        "logp": logp.tolist(),
        "old_logp": near(logp, 0.4).tolist(),
        "behaviour_logp": near(logp, 0.6).tolist(),
        "ref_logp": near(logp, 0.5).tolist(),
        "entropy": rng.uniform(0, 3, (ROWS, LENGTH)).round(4).tolist(),
        "advantages": rng.normal(0, 1, ROWS).round(4).tolist(),
        "mask": mask.tolist(),
    }


def reward_inputs(seed: int = SEED) -> dict[str, Any]:
    """Returns rewards and response tokens of each episode, [groups, episodes of a group]."""
    rng = np.random.default_rng(seed)
    # Large relative to the estimators' epsilons, which differ: 1e-6 on a standard deviation here,
    # 1e-8 on a variance there.
    rewards = rng.normal(0, 20, (GROUPS, GROUP_SIZE)).round(3)
    return {
        "rewards": rewards.tolist(),
        "tokens": rng.integers(1, 12, (GROUPS, GROUP_SIZE)).tolist(),
    }


def objective_inputs(seed: int = SEED) -> dict[str, Any]:
    """Returns amounts by objective, and response tokens, [groups, episodes of a group].

    All answers are right: for wrong ones only this project has the paper's conditioned reward.
    """
    rng = np.random.default_rng(seed)
    shape = (GROUPS, GROUP_SIZE)
    return {
        "calls": rng.integers(0, 40, shape).tolist(),
        "right": np.ones(shape).tolist(),
        "usd": rng.exponential(20, shape).round(3).tolist(),
        "seconds": rng.exponential(20, shape).round(3).tolist(),
        "tokens": rng.integers(1, 12, shape).tolist(),
    }


def tensors_of(inputs: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: torch.tensor(value, dtype=torch.bool if name == "mask" else torch.float64)
        for name, value in inputs.items()
    }


def our_outcome(case: LossCase, inputs: Mapping[str, Any]) -> Outcome:
    given = tensors_of(inputs)
    logp = given["logp"].requires_grad_()
    cfg = LossConfig(**{k: _ENUMS[k](v) if k in _ENUMS else v for k, v in case.ours.items()})
    constant = cfg.aggregation is Aggregation.CONSTANT
    loss, sums = policy_loss(
        logp,
        given["old_logp"],
        given["advantages"],
        given["mask"],
        cfg,
        given["behaviour_logp"],
        given["ref_logp"],
        given["entropy"],
        weights=torch.full_like(logp, 1 / cfg.constant_tokens) if constant else None,
    )
    (gradient,) = torch.autograd.grad(loss, logp)
    stats = {
        name: (sums[name] / sums["tokens"]).item()
        for name in ("clip_fraction", "clip_low", "clip_high", "clip_dual")
        if name in sums
    }
    return Outcome(loss.item(), gradient.tolist(), stats)
