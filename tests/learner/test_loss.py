"""The loss equals its formulas, and micro-batches add up to one batch."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from orchestra_ray.config.schema import Aggregation, KlEstimator, LossConfig
from orchestra_ray.learner.loss import aggregate, kl_penalty, policy_loss


def one_token(log_ratio: float, advantage: float, cfg: LossConfig) -> tuple[float, float]:
    """Loss and its gradient in logp for a single response token."""
    logp = torch.tensor([[log_ratio]], requires_grad=True)
    loss, _ = policy_loss(
        logp, torch.zeros(1, 1), torch.tensor([advantage]), torch.ones(1, 1, dtype=torch.bool), cfg
    )
    loss.backward()
    assert logp.grad is not None
    return loss.item(), logp.grad.item()


def loss_of(
    batch: dict[str, Tensor], cfg: LossConfig, normaliser: float | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    return policy_loss(
        batch["logp"],
        batch["old_logp"],
        batch["advantages"],
        batch["mask"],
        cfg,
        batch.get("behaviour_logp"),
        batch.get("ref_logp"),
        normaliser=normaliser,
    )


def random_batch(seed: int, rows: int, length: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)

    def logp() -> Tensor:
        return -torch.rand(rows, length, generator=draw) * 3

    return {
        "logp": logp(),
        "old_logp": logp(),
        "behaviour_logp": logp(),
        "ref_logp": logp(),
        "advantages": torch.randn(rows, generator=draw),
        "mask": torch.rand(rows, length, generator=draw) < 0.5,
    }


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "has_gradient"),
    [
        (1.0, 2.0, -2.0, True),
        (1.5, 2.0, -2.0 * 1.28, False),  # clipped above where the advantage is positive
        (0.5, 2.0, -1.0, True),
        (1.5, -2.0, 3.0, True),
        (0.5, -2.0, 1.6, False),  # clipped below where it is negative
    ],
)
def test_a_token_is_clipped_only_on_the_side_that_its_advantage_pushes_to(
    ratio: float, advantage: float, expected: float, has_gradient: bool
) -> None:
    cfg = LossConfig(clip_low=0.2, clip_high=0.28)
    loss, gradient = one_token(math.log(ratio), advantage, cfg)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert (gradient != 0) is has_gradient


def test_dual_clip_bounds_the_loss_of_negative_advantages_alone() -> None:
    cfg = LossConfig(dual_clip=3.0)
    assert one_token(math.log(50.0), -2.0, cfg) == (pytest.approx(6.0), 0.0)
    assert one_token(math.log(2.0), -2.0, cfg)[0] == pytest.approx(4.0)
    assert one_token(math.log(0.1), 2.0, cfg)[0] == pytest.approx(-0.2)


@pytest.mark.parametrize("estimator", list(KlEstimator))
def test_kl_estimators_have_the_expectation_they_estimate(estimator: KlEstimator) -> None:
    policy = torch.tensor([0.5, 0.3, 0.2])
    reference = torch.tensor([0.45, 0.33, 0.22])
    exact = (policy * (policy / reference).log()).sum()
    estimate = (policy * kl_penalty(policy.log(), reference.log(), estimator)).sum()
    tolerance = 0.05 if estimator is KlEstimator.K2 else 1e-4  # k2 is biased, to third order
    assert estimate.item() == pytest.approx(exact.item(), rel=tolerance)


def test_the_kl_term_is_added_with_its_coefficient() -> None:
    batch = random_batch(0, 3, 5)
    plain, _ = loss_of(batch, LossConfig())
    cfg = LossConfig(kl_coef=0.5, kl_estimator=KlEstimator.K3)
    loss, sums = loss_of(batch, cfg)
    assert (loss - plain).item() == pytest.approx(0.5 * (sums["ref_kl"] / sums["tokens"]).item())


def test_importance_weights_are_truncated_and_take_no_gradient() -> None:
    mask = torch.ones(1, 2, dtype=torch.bool)
    logp = torch.zeros(1, 2, requires_grad=True)
    behaviour = -torch.tensor([[1.5, 10.0]]).log()  # pi_old / pi_behaviour = 1.5 and 10
    cfg = LossConfig(importance_cap=2.0)
    loss, sums = policy_loss(
        logp, logp.detach(), torch.tensor([1.0]), mask, cfg, behaviour_logp=behaviour
    )
    loss.backward()
    assert loss.item() == pytest.approx(-(1.5 + 2.0) / 2)
    assert logp.grad is not None
    assert logp.grad[0].tolist() == pytest.approx([-0.75, -1.0])
    assert sums["importance"].item() == pytest.approx(3.5)
    assert sums["logprob_gap"].item() == pytest.approx(math.log(1.5) + math.log(10.0), rel=1e-5)


def test_tokens_outside_the_mask_change_nothing() -> None:
    batch = random_batch(1, 3, 6)
    cfg = LossConfig(kl_coef=0.1, importance_cap=2.0, dual_clip=5.0)
    before, sums_before = loss_of(batch, cfg)
    for name in ("logp", "old_logp", "behaviour_logp", "ref_logp"):
        batch[name] = torch.where(batch["mask"], batch[name], torch.nan)
    after, sums_after = loss_of(batch, cfg)
    assert before == after
    assert sums_before == sums_after


def test_a_missing_input_is_an_error() -> None:
    batch = random_batch(2, 1, 2)
    bare = {k: batch[k] for k in ("logp", "old_logp", "advantages", "mask")}
    with pytest.raises(ValueError, match="behaviour_logp"):
        loss_of(bare, LossConfig(importance_cap=2.0))
    with pytest.raises(ValueError, match="ref_logp"):
        loss_of(bare, LossConfig(kl_coef=0.1))


def test_aggregation_weighs_tokens_or_sequences_alike() -> None:
    values = torch.tensor([[1.0, 1.0, 1.0], [4.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    assert aggregate(values, mask, Aggregation.TOKEN).item() == pytest.approx(7 / 4)
    assert aggregate(values, mask, Aggregation.SEQUENCE).item() == pytest.approx((1 + 4) / 2)


def test_advantages_a_token_equal_advantages_a_sequence() -> None:
    batch = random_batch(3, 3, 4)
    by_sequence, _ = loss_of(batch, LossConfig())
    batch["advantages"] = batch["advantages"].unsqueeze(1).expand(3, 4)
    by_token, _ = loss_of(batch, LossConfig())
    assert by_sequence == by_token


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 6),
    cut=st.integers(0, 6),
    aggregation=st.sampled_from(Aggregation),
)
def test_microbatches_sum_to_one_big_batch(
    seed: int, rows: int, cut: int, aggregation: Aggregation
) -> None:
    batch = random_batch(seed, rows, 5)
    logp = batch["logp"].requires_grad_()
    cfg = LossConfig(kl_coef=0.1, importance_cap=2.0, aggregation=aggregation)
    by_token = aggregation is Aggregation.TOKEN
    normaliser = float(batch["mask"].sum()) if by_token else float(rows)

    whole, sums = loss_of(batch, cfg)
    (gradient,) = torch.autograd.grad(whole, logp)
    parts, part_sums = torch.zeros(()), {name: torch.zeros(()) for name in sums}
    for rows_of in (slice(0, cut), slice(cut, None)):
        part = {name: value[rows_of] for name, value in batch.items()}
        loss, stats = loss_of(part, cfg, normaliser)
        parts = parts + loss
        part_sums = {name: part_sums[name] + stats[name] for name in sums}
    (sum_of_gradients,) = torch.autograd.grad(parts, logp)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(sum_of_gradients, gradient)
    torch.testing.assert_close(part_sums, sums)
