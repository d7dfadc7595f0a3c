"""TRL's results: the unmodified `GRPOTrainer._compute_loss` on a stand-in for the trainer.

The method is TRL's own code from the log-probabilities to the loss. The stand-in replaces the
model's forward pass by the given log-probabilities and entropies, and the accelerator by one
process. TRL computes advantages inside its generation, without a function to call.
"""

from collections import defaultdict
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from cases import CONSTANT, LossCase, Outcome, tensors_of
from trl.trainer.grpo_trainer import GRPOTrainer


def loss_outcome(case: LossCase, inputs: Mapping[str, Any]) -> Outcome:
    assert case.trl is not None
    given = tensors_of(inputs)
    logp = given["logp"].requires_grad_()
    trainer = _trainer(case, logp, given["entropy"])
    cap = case.ours.get("importance_cap")
    weights = (given["old_logp"] - given["behaviour_logp"]).exp()
    mask, nothing = given["mask"].double(), torch.zeros(len(logp), 0, dtype=torch.long)
    batch = {
        "prompt_ids": nothing,
        "prompt_mask": nothing,
        "completion_ids": torch.zeros(logp.shape, dtype=torch.long),
        "completion_mask": torch.ones(logp.shape, dtype=torch.float64),
        "tool_mask": mask,
        "advantages": given["advantages"],
        "old_per_token_logps": given["old_logp"],
        "ref_per_token_logps": given["ref_logp"],
        "importance_sampling_ratio": weights.clamp(max=cap) if cap else torch.ones(()),
        "num_items_in_batch": mask.sum(),
    }
    loss = GRPOTrainer._compute_loss(trainer, None, batch)  # type: ignore[arg-type]
    (gradient,) = torch.autograd.grad(loss, logp)
    metrics = trainer._metrics["train"]
    stats = {
        ours: metrics[theirs][0]
        for ours, theirs in (
            ("clip_low", "clip_ratio/low_mean"),
            ("clip_high", "clip_ratio/high_mean"),
        )
        # a sequence counts once in TRL, by its tokens here
        if theirs in metrics and case.ours.get("surrogate") != "gspo"
    }
    return Outcome(loss.item(), gradient.tolist(), stats)


def _trainer(case: LossCase, logp: torch.Tensor, entropy: torch.Tensor) -> SimpleNamespace:
    settings = dict(case.trl or {})
    return SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logp, entropy, None),
        args=SimpleNamespace(
            delta=settings.pop("delta", None),
            steps_per_generation=1,
            use_bias_correction_kl=False,
        ),
        accelerator=SimpleNamespace(
            num_processes=1,
            sync_gradients=True,
            gather=lambda values: values,
            reduce=lambda values, reduction: values,
        ),
        model=SimpleNamespace(training=True),
        _metrics={"train": defaultdict(list)},
        aux_loss_enabled=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=CONSTANT,
        off_policy_mask_threshold=None,
        top_entropy_quantile=1.0,
        use_adaptive_entropy=False,
        use_vllm=True,
        vllm_importance_sampling_correction="importance_cap" in case.ours,
        _entropy_bonus_enabled="entropy_coef" in settings,
        **{
            "beta": 0.0,
            "entropy_coef": 0.0,
            "epsilon_high": 0.2,
            "epsilon_low": 0.2,
            "importance_sampling_level": "token",
            **settings,
        },
    )
