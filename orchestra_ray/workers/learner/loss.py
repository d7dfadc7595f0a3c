"""The policy-gradient loss: a surrogate, KL to a reference, entropy bonus, importance weights.

Invariant: every term is a weighted sum over response tokens divided by one `normaliser`, so the
losses and gradients of micro-batches and ranks add up to those of one large batch.

Axis suffixes: `_B` sequences, `_T` positions.
"""

import torch
from torch import Tensor

from orchestra_ray.config.enums import KlEstimator
from orchestra_ray.config.learning import LossConfig
from orchestra_ray.workers.learner.aggregation import aggregate
from orchestra_ray.workers.learner.surrogates import MAX_LOG_RATIO, surrogate_loss


def kl_penalty(logp: Tensor, ref_logp: Tensor, estimator: KlEstimator) -> Tensor:
    """Returns estimates of KL(pi, ref) by token (Schulman, "Approximating KL Divergence", 2020).

    k1 = log(pi/ref); k2 = log(pi/ref)^2 / 2; k3 = ref/pi - 1 - log(ref/pi). As a loss, k2 has the
    gradient of the KL on-policy, while that of k1 is zero in expectation.
    """
    log_ratio = (ref_logp - logp).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    match estimator:
        case KlEstimator.K1:
            return -log_ratio
        case KlEstimator.K2:
            return log_ratio.square() / 2
        case KlEstimator.K3:
            return log_ratio.exp() - 1 - log_ratio


def policy_loss(
    logp: Tensor,
    old_logp: Tensor,
    advantages: Tensor,
    mask: Tensor,
    cfg: LossConfig,
    behaviour_logp: Tensor | None = None,
    ref_logp: Tensor | None = None,
    entropy: Tensor | None = None,
    *,
    weights: Tensor | None = None,
    normaliser: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the loss to be minimised, `surrogates.surrogate_loss` plus further terms, and stats.

    logp, old_logp, behaviour_logp, ref_logp: float [B, T], log-probabilities of the response
    tokens under the policy, the policy before the batch, the engine that sampled them, and the
    frozen reference. entropy: float [B, T], of the policy's distribution. mask: bool [B, T],
    trained tokens; all others are ignored. advantages: float [B] or [B, T]. weights, normaliser:
    see `aggregation`.

    With an importance cap, the surrogate of a token is weighted by min(old / behaviour, cap).

    The loss is a scalar. The stats add up over micro-batches: `loss` (normalised), `tokens`
    (trained), and sums over trained tokens: those of the surrogate; `approx_kl` (k3 of old to
    policy); with entropy `entropy`; with behaviour_logp `logprob_gap` (|old - behaviour|) and
    `behaviour_kl` (k3 of behaviour to old); with a cap `importance`; with ref_logp `ref_kl`.
    Raises ValueError if the tensor of a configured term is missing.
    """
    if cfg.importance_cap is not None and behaviour_logp is None:
        raise ValueError("policy_loss: importance_cap is set, but behaviour_logp is missing")
    if cfg.kl_coef > 0 and ref_logp is None:
        raise ValueError("policy_loss: kl_coef is positive, but ref_logp is missing")
    if cfg.entropy_coef > 0 and entropy is None:
        raise ValueError("policy_loss: entropy_coef is positive, but entropy is missing")
    if advantages.dim() == 1:
        advantages = advantages.unsqueeze(-1)
    logp, old_logp = torch.where(mask, logp, 0.0), torch.where(mask, old_logp, 0.0)

    losses, stats = surrogate_loss(logp, old_logp, advantages, mask, cfg)
    stats["approx_kl"] = kl_penalty(old_logp, logp, KlEstimator.K3)
    if behaviour_logp is not None:
        behaviour_logp = torch.where(mask, behaviour_logp, 0.0)
        stats["logprob_gap"] = (old_logp - behaviour_logp).abs()
        stats["behaviour_kl"] = kl_penalty(behaviour_logp, old_logp, KlEstimator.K3)
        if cfg.importance_cap is not None:
            weight = (old_logp - behaviour_logp).clamp(max=MAX_LOG_RATIO).exp()
            weight = weight.clamp(max=cfg.importance_cap).detach()
            losses = losses * weight
            stats["importance"] = weight
    if ref_logp is not None:
        penalty = kl_penalty(logp, torch.where(mask, ref_logp, 0.0), cfg.kl_estimator)
        losses = losses + cfg.kl_coef * penalty
        stats["ref_kl"] = penalty
    if entropy is not None:
        entropy = torch.where(mask, entropy, 0.0)
        losses = losses - cfg.entropy_coef * entropy
        stats["entropy"] = entropy

    loss = aggregate(losses, mask, cfg.aggregation, normaliser, weights)
    sums = {name: torch.where(mask, value, 0.0).sum().detach() for name, value in stats.items()}
    sums["tokens"] = mask.sum().float()
    sums["loss"] = loss.detach()
    return loss, sums
