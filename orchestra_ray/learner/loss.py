"""The policy-gradient loss: clipped surrogate, dual clip, KL to a reference, importance weights.

Invariant: every term is a sum over response tokens divided by one `normaliser`, so the losses of
micro-batches and ranks add up to the loss of one big batch, and so do their gradients.

Axis suffixes: `_B` sequences, `_T` positions.
"""

import torch
from torch import Tensor

from orchestra_ray.config.schema import Aggregation, KlEstimator, LossConfig

_MAX_LOG_RATIO = 20.0  # exp beyond it is a fault, not a policy; keeps float32 finite


def aggregate(
    values_B_T: Tensor, mask_B_T: Tensor, aggregation: Aggregation, normaliser: float | None = None
) -> Tensor:
    """The one reduction of the loss, a scalar.

    token:    sum over b, t of mask * values / normaliser
    sequence: sum over b of (sum over t of mask * values / sum over t of mask) / normaliser

    `normaliser` is the number of response tokens (token) or of sequences (sequence) of the whole
    optimizer batch; None takes this tensor's own. A sequence without response tokens adds 0.
    """
    masked_B_T = torch.where(mask_B_T, values_B_T, 0.0)
    if aggregation is Aggregation.TOKEN:
        total, own = masked_B_T.sum(), mask_B_T.sum()
    else:
        total = (masked_B_T.sum(-1) / mask_B_T.sum(-1).clamp(min=1)).sum()
        own = torch.tensor(mask_B_T.shape[0])
    return total / (own.clamp(min=1) if normaliser is None else max(normaliser, 1.0))


def kl_penalty(logp: Tensor, ref_logp: Tensor, estimator: KlEstimator) -> Tensor:
    """Estimates of KL(pi, ref) a token (Schulman, "Approximating KL Divergence", 2020).

    k1 = log(pi/ref); k2 = log(pi/ref)^2 / 2; k3 = ref/pi - 1 - log(ref/pi). As a loss, k2 has the
    gradient of the KL on-policy, while that of k1 is zero in expectation.
    """
    log_ratio = (ref_logp - logp).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO)
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
    *,
    normaliser: float | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Clipped surrogate of PPO and GRPO (arXiv 1707.06347, 2402.03300), to be minimised.

    logp, old_logp, behaviour_logp, ref_logp: float [B, T], log-probabilities of the response
    tokens under the policy, the policy before the batch, the engine that sampled them, and the
    frozen reference. mask: bool [B, T], response tokens; the others are never read.
    advantages: float [B] or [B, T]. normaliser: see `aggregate`.

    With dual clip c, the loss of a token of negative advantage A is at most -cA (arXiv
    1912.09729). With an importance cap, each token is weighted by min(old / behaviour, cap).

    Returns the scalar loss and stats that add up over micro-batches: `loss` (normalised), `tokens`
    (responses), and sums over response tokens: `ratio`, `clip_fraction`, `approx_kl` (k3 of old to
    policy); with behaviour_logp `logprob_gap` (|old - behaviour|) and `behaviour_kl` (k3 of
    behaviour to old); with a cap `importance`; with ref_logp `ref_kl`.
    Raises ValueError where a term of the configuration lacks its log-probabilities.
    """
    if cfg.importance_cap is not None and behaviour_logp is None:
        raise ValueError("policy_loss: importance_cap is set, but behaviour_logp is missing")
    if cfg.kl_coef > 0 and ref_logp is None:
        raise ValueError("policy_loss: kl_coef is positive, but ref_logp is missing")
    if advantages.dim() == 1:
        advantages = advantages.unsqueeze(-1)
    logp, old_logp = torch.where(mask, logp, 0.0), torch.where(mask, old_logp, 0.0)

    ratio = (logp - old_logp).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO).exp()
    free = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - cfg.clip_low, 1 + cfg.clip_high)
    losses = torch.maximum(free, clipped)
    if cfg.dual_clip is not None:
        bound = -advantages * cfg.dual_clip
        losses = torch.where(advantages < 0, torch.minimum(losses, bound), losses)

    stats = {
        "ratio": ratio,
        "clip_fraction": (clipped > free).float(),
        "approx_kl": kl_penalty(old_logp, logp, KlEstimator.K3),
    }
    if behaviour_logp is not None:
        behaviour_logp = torch.where(mask, behaviour_logp, 0.0)
        stats["logprob_gap"] = (old_logp - behaviour_logp).abs()
        stats["behaviour_kl"] = kl_penalty(behaviour_logp, old_logp, KlEstimator.K3)
        if cfg.importance_cap is not None:
            weight = (old_logp - behaviour_logp).clamp(max=_MAX_LOG_RATIO).exp()
            weight = weight.clamp(max=cfg.importance_cap).detach()
            losses = losses * weight
            stats["importance"] = weight
    if ref_logp is not None:
        penalty = kl_penalty(logp, torch.where(mask, ref_logp, 0.0), cfg.kl_estimator)
        losses = losses + cfg.kl_coef * penalty
        stats["ref_kl"] = penalty

    loss = aggregate(losses, mask, cfg.aggregation, normaliser)
    sums = {name: torch.where(mask, value, 0.0).sum().detach() for name, value in stats.items()}
    sums["tokens"] = mask.sum().float()
    sums["loss"] = loss.detach()
    return loss, sums
