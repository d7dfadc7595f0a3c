"""The surrogate objectives, by token, as losses to be minimised.

    clip   -min(r A, clip(r, 1 - low, 1 + high) A), r the token's ratio of policy to old policy
    gspo   the same, with r = exp(mean over the sequence of its tokens' log-ratios) in value and
           the token's own gradient (GSPO-token, arXiv 2507.18071; with one advantage per
           sequence and the mean over its tokens, this is GSPO)
    cispo  -clip(r, 1 - low, 1 + high) A log pi, the weight without a gradient (arXiv 2506.13585),
           so that tokens beyond the clip keep their gradient

PPO's clip: arXiv 1707.06347; GRPO: 2402.03300; a `high` above `low`: DAPO, 2503.14476. With dual
clip c, the loss of a token of negative advantage is at most -cA (1912.09729).

All tensors are [B, T]; values outside the mask must be finite and are otherwise ignored.
"""

import torch
from torch import Tensor

from orchestra_ray.config.enums import Surrogate
from orchestra_ray.config.learning import LossConfig

MAX_LOG_RATIO = 20.0  # keeps exp finite in float32; no sound policy exceeds it


def surrogate_loss(
    logp: Tensor, old_logp: Tensor, advantages: Tensor, mask: Tensor, cfg: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns the loss of each token, and stats by token: `ratio` and clip indicators, 1 or 0.

    `clip_low`, `clip_high`: the lower or upper bound clipped the gradient (cispo: the weight);
    `clip_fraction`: either. `clip_dual`, with dual clip: it bounded the loss.
    """
    ratio = _ratio(logp, old_logp, mask, cfg.surrogate)
    clipped_ratio = ratio.clamp(1 - cfg.clip_low, 1 + cfg.clip_high)
    below, above = ratio < clipped_ratio, ratio > clipped_ratio
    if cfg.surrogate is Surrogate.CISPO:
        losses = -clipped_ratio.detach() * advantages * logp
    else:
        below, above = below & (advantages < 0), above & (advantages > 0)
        losses = torch.maximum(-advantages * ratio, -advantages * clipped_ratio)
    stats = {
        "ratio": ratio,
        "clip_fraction": below | above,
        "clip_low": below,
        "clip_high": above,
    }
    if cfg.dual_clip is not None and cfg.surrogate is not Surrogate.CISPO:
        bound = -advantages * cfg.dual_clip
        stats["clip_dual"] = (advantages < 0) & (losses > bound)
        losses = torch.where(advantages < 0, torch.minimum(losses, bound), losses)
    return losses, {name: value.to(losses.dtype) for name, value in stats.items()}


def _ratio(logp: Tensor, old_logp: Tensor, mask: Tensor, surrogate: Surrogate) -> Tensor:
    log_ratio = logp - old_logp
    if surrogate is Surrogate.GSPO:
        masked = torch.where(mask, log_ratio, 0.0).detach()
        mean_B_1 = masked.sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
        log_ratio = mean_B_1 + (logp - logp.detach())
    return log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
