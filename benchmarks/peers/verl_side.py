"""verl's results: the functions of `verl.trainer.ppo.core_algos`, called as by its actor."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from cases import OBJECTIVES, LossCase, Outcome, tensors_of
from verl.trainer.ppo import core_algos
from verl.workers.config import ActorConfig

# `reward.advantage` here: the estimator and its options in verl
ESTIMATORS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "grpo": ("grpo", {}),
    "dr_grpo": ("grpo", {"norm_adv_by_std_in_grpo": False}),
    "rloo": ("rloo", {}),
    "reinforce_pp": ("reinforce_plus_plus_baseline", {}),
}


def loss_outcome(case: LossCase, inputs: Mapping[str, Any]) -> Outcome:
    """Returns the policy loss, plus the KL, minus the entropy, all with the same aggregation."""
    assert case.verl is not None
    given = tensors_of(inputs)
    logp, mask = given["logp"].requires_grad_(), given["mask"]
    settings = {k: v for k, v in case.verl.items() if k != "loss"}
    config = ActorConfig(
        strategy="fsdp",
        rollout_n=1,
        use_dynamic_bsz=True,
        global_batch_info={"loss_scale_factor": settings.get("loss_scale_factor")},
        **settings,
    )
    cap = case.ours.get("importance_cap")
    weights = (given["old_logp"] - given["behaviour_logp"]).exp()
    loss, metrics = core_algos.get_policy_loss_fn(case.verl["loss"])(
        old_log_prob=given["old_logp"],
        log_prob=logp,
        advantages=given["advantages"].unsqueeze(-1).expand_as(logp),
        response_mask=mask.double(),
        loss_agg_mode=config.loss_agg_mode,
        config=config,
        rollout_is_weights=None if cap is None else weights.clamp(max=cap),
    )

    def total(values: torch.Tensor) -> torch.Tensor:
        return core_algos.agg_loss(
            values, mask.double(), config.loss_agg_mode, **config.global_batch_info
        )

    if "kl_loss_coef" in settings:
        kl = core_algos.kl_penalty(logp, given["ref_logp"], config.kl_loss_type)
        loss = loss + config.kl_loss_coef * total(kl)
    loss = loss - config.entropy_coeff * total(given["entropy"])
    (gradient,) = torch.autograd.grad(loss, logp)
    stats = {"clip_fraction": float(metrics["actor/pg_clipfrac"])}
    if "dual_clip" in case.ours:
        stats["clip_dual"] = float(metrics["actor/pg_clipfrac_lower"])
    return Outcome(loss.item(), gradient.tolist(), stats)


def advantages(preset: str, inputs: Mapping[str, Any]) -> list[list[float]]:
    """Returns an advantage for each episode, from its reward on its last token, as in verl."""
    name, options = ESTIMATORS[preset]
    rewards_N, tokens_N = np.ravel(inputs["rewards"]), np.ravel(inputs["tokens"])
    groups, size = np.shape(inputs["rewards"])
    mask = _mask(tokens_N)
    token_rewards = torch.zeros_like(mask)
    token_rewards[torch.arange(groups * size), torch.from_numpy(tokens_N - 1)] = torch.from_numpy(
        rewards_N
    )
    found, _ = core_algos.get_adv_estimator_fn(name)(
        token_level_rewards=token_rewards,
        response_mask=mask,
        index=np.repeat(np.arange(groups), size),
        **options,
    )
    return found[:, 0].reshape(groups, size).tolist()


def gdpo_advantages(inputs: Mapping[str, Any]) -> list[list[float]]:
    """Returns the same from the amounts by objective, in verl's single precision."""
    tokens_N = np.ravel(inputs["tokens"])
    groups, size = np.shape(inputs["tokens"])
    mask = _mask(tokens_N)
    prompts = torch.ones((tokens_N.size, 1), dtype=torch.long)
    found, _ = core_algos.get_adv_estimator_fn("gdpo")(
        token_level_rewards=torch.zeros_like(mask),
        response_mask=mask,
        index=np.repeat(np.arange(groups), size),
        config={
            "gdpo_reward_keys": list(OBJECTIVES),
            "gdpo_reward_weights": [weight for weight, _ in OBJECTIVES.values()],
        },
        non_tensor_batch={
            name: np.ravel(inputs[name]) * (-1 if minimise else 1)
            for name, (_, minimise) in OBJECTIVES.items()
        },
        batch={"prompts": prompts, "attention_mask": torch.cat([prompts, mask.long()], dim=1)},
    )
    return found[:, 0].reshape(groups, size).tolist()


def _mask(tokens_N: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.arange(tokens_N.max()) < tokens_N[:, None]).double()
