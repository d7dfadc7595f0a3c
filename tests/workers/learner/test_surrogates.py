"""Each surrogate equals its closed form, in value and in gradient, in float64."""

import math

import pytest
import torch
from torch import Tensor

from orchestra_ray.config.enums import Aggregation, Surrogate
from orchestra_ray.config.learning import LossConfig
from orchestra_ray.workers.learner.loss import policy_loss

OLD = math.log(0.4)  # log-probability of the old policy, wherever it is one number


def one_token(ratio: float, advantage: float, cfg: LossConfig) -> tuple[float, float]:
    """Loss and its gradient in logp for a single response token."""
    (loss,), (gradient,) = one_sequence([ratio], [advantage], cfg)
    return loss, gradient


def one_sequence(
    ratios: list[float], advantages: list[float], cfg: LossConfig
) -> tuple[list[float], list[float]]:
    """The loss, and its gradient in each token's logp."""
    old = torch.full((1, len(ratios)), OLD, dtype=torch.float64)
    logp = (old + torch.tensor([ratios], dtype=torch.float64).log()).requires_grad_()
    mask = torch.ones_like(old, dtype=torch.bool)
    given = torch.tensor([advantages], dtype=torch.float64)
    loss, _ = policy_loss(logp, old, given, mask, cfg)
    (gradient,) = torch.autograd.grad(loss, logp)
    return [loss.item()], gradient[0].tolist()


CLIP = LossConfig(clip_low=0.2, clip_high=0.28)
DUAL = LossConfig(clip_low=0.2, clip_high=0.28, dual_clip=3.0)
CISPO = LossConfig(surrogate=Surrogate.CISPO, clip_low=0.2, clip_high=0.28)


@pytest.mark.parametrize(
    ("cfg", "ratio", "advantage", "loss", "gradient"),
    [
        (CLIP, 1.0, 2.0, -2.0, -2.0),
        (CLIP, 1.5, 2.0, -2.56, 0.0),  # clipped above where the advantage is positive
        (CLIP, 0.5, 2.0, -1.0, -1.0),
        (CLIP, 1.5, -2.0, 3.0, 3.0),
        (CLIP, 0.5, -2.0, 1.6, 0.0),  # clipped below where it is negative
        (CLIP, 1.25, 2.0, -2.5, -2.5),  # between 1 + low and 1 + high
        (CLIP, 50.0, -2.0, 100.0, 100.0),
        (DUAL, 50.0, -2.0, 6.0, 0.0),  # bounded at c times the advantage
        (DUAL, 2.0, -2.0, 4.0, 4.0),
        (DUAL, 0.1, -2.0, 1.6, 0.0),
        (DUAL, 0.1, 2.0, -0.2, -0.2),  # positive advantages have no bound
        (CISPO, 1.0, 2.0, -2.0 * OLD, -2.0),
        (CISPO, 1.5, 2.0, -2.56 * (OLD + math.log(1.5)), -2.56),  # clipped, and still teaches
        (CISPO, 0.5, 2.0, -1.6 * (OLD + math.log(0.5)), -1.6),
        (CISPO, 1.5, -2.0, 2.56 * (OLD + math.log(1.5)), 2.56),
        (CISPO, 0.5, -2.0, 1.6 * (OLD + math.log(0.5)), 1.6),
    ],
)
def test_a_token_has_the_loss_and_the_gradient_of_its_formula(
    cfg: LossConfig, ratio: float, advantage: float, loss: float, gradient: float
) -> None:
    expected = (pytest.approx(loss, rel=1e-12), pytest.approx(gradient, rel=1e-12))
    assert one_token(ratio, advantage, cfg) == expected


@pytest.mark.parametrize(
    ("ratios", "advantage", "sequence_ratio", "has_gradient"),
    [
        ([1.1, 1.1, 1.1], 1.0, 1.1, True),
        ([2.0, 0.5, 1.0], 1.0, 1.0, True),  # the geometric mean; no token of it is clipped alone
        ([2.0, 2.0, 1.0], 1.0, 2 ** (2 / 3), False),  # above: every token is cut, the last too
        ([2.0, 2.0, 1.0], -1.0, 2 ** (2 / 3), True),
        ([0.5, 0.5, 1.0], -1.0, 2 ** (-2 / 3), False),
        ([0.5, 0.5, 1.0], 1.0, 2 ** (-2 / 3), True),
    ],
)
def test_gspo_clips_the_geometric_mean_of_the_ratios(
    ratios: list[float], advantage: float, sequence_ratio: float, has_gradient: bool
) -> None:
    cfg = LossConfig(
        surrogate=Surrogate.GSPO, clip_low=0.2, clip_high=0.28, aggregation=Aggregation.SEQUENCE
    )
    clipped = min(max(sequence_ratio, 0.8), 1.28)
    value = min(sequence_ratio * advantage, clipped * advantage)
    (loss,), gradient = one_sequence(ratios, [advantage] * 3, cfg)
    assert loss == pytest.approx(-value, rel=1e-12)
    each = -advantage * sequence_ratio / 3 if has_gradient else 0.0
    assert gradient == pytest.approx([each] * 3, rel=1e-12)


def test_gspo_with_an_advantage_a_token_keeps_the_ratio_of_the_sequence() -> None:
    cfg = LossConfig(
        surrogate=Surrogate.GSPO, clip_low=0.5, clip_high=0.5, aggregation=Aggregation.SEQUENCE
    )
    (loss,), gradient = one_sequence([1.2, 1.2, 0.9], [1.0, -2.0, 4.0], cfg)
    ratio = (1.2 * 1.2 * 0.9) ** (1 / 3)
    assert loss == pytest.approx(-ratio * 3.0 / 3)
    assert gradient == pytest.approx([-ratio / 3, 2 * ratio / 3, -4 * ratio / 3])


def test_gspo_reads_the_ratios_of_the_mask_alone() -> None:
    cfg = LossConfig(surrogate=Surrogate.GSPO)
    logp = torch.tensor([[0.1, 0.9, 0.1]], dtype=torch.float64)
    mask = torch.tensor([[True, False, True]])
    _, sums = policy_loss(logp, torch.zeros_like(logp), torch.ones(1), mask, cfg)
    assert sums["ratio"].item() == pytest.approx(2 * math.exp(0.1))


@pytest.mark.parametrize("surrogate", list(Surrogate))
def test_on_policy_every_surrogate_has_the_gradient_of_reinforce(surrogate: Surrogate) -> None:
    logp = torch.linspace(-2, -1, 5, dtype=torch.float64).unsqueeze(0).requires_grad_()
    advantages = torch.tensor([0.7], dtype=torch.float64)
    mask = torch.ones(1, 5, dtype=torch.bool)
    cfg = LossConfig(surrogate=surrogate, dual_clip=3.0)
    loss, _ = policy_loss(logp, logp.detach(), advantages, mask, cfg)
    (gradient,) = torch.autograd.grad(loss, logp)
    torch.testing.assert_close(gradient, torch.full_like(logp, -0.7 / 5))


def stats_of(ratios: list[float], advantages: list[float], cfg: LossConfig) -> dict[str, Tensor]:
    logp = torch.tensor([ratios], dtype=torch.float64).log()
    mask = torch.ones_like(logp, dtype=torch.bool)
    given = torch.tensor([advantages], dtype=torch.float64)
    return policy_loss(logp, torch.zeros_like(logp), given, mask, cfg)[1]


@pytest.mark.parametrize(
    ("surrogate", "low", "high", "dual"),
    [
        (Surrogate.CLIP, 1, 1, 1),  # 0.5 of A < 0; 1.5 of A > 0; 9.0 of A < 0
        (Surrogate.CISPO, 2, 3, None),  # whatever the sign
    ],
)
def test_what_is_clipped_is_counted_by_side(
    surrogate: Surrogate, low: int, high: int, dual: int | None
) -> None:
    cfg = LossConfig(surrogate=surrogate, dual_clip=3.0)
    sums = stats_of([0.5, 0.5, 1.5, 1.5, 9.0, 1.0], [1, -1, 1, -1, -1, 1], cfg)
    assert (sums["clip_low"].item(), sums["clip_high"].item()) == (low, high)
    assert sums["clip_fraction"].item() == low + high
    assert (sums["clip_dual"].item() if dual else sums.get("clip_dual")) == dual


def test_a_clipped_sequence_counts_with_all_its_tokens() -> None:
    cfg = LossConfig(surrogate=Surrogate.GSPO, clip_low=3e-4, clip_high=4e-4)
    assert stats_of([1.01, 1.0, 1.0], [1, 1, 1], cfg)["clip_high"].item() == 3
    assert stats_of([1.001, 1.0, 1.0], [1, 1, 1], cfg)["clip_high"].item() == 0
