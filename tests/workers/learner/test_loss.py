"""The loss equals its formulas, and micro-batches add up to one batch."""

import math
from dataclasses import replace
from random import Random

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from orchestra_ray.config.enums import Aggregation, KlEstimator, Surrogate
from orchestra_ray.config.learning import LossConfig
from orchestra_ray.workers.learner.aggregation import share_of_normaliser
from orchestra_ray.workers.learner.loss import kl_penalty, policy_loss


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
        batch.get("entropy"),
        weights=batch.get("weights"),
        normaliser=normaliser,
    )


def random_batch(seed: int, rows: int, length: int) -> dict[str, Tensor]:
    """float64, with weights of any size, as those of turns and episodes can be."""
    draw = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(rows, length, generator=draw, dtype=torch.float64)

    return {
        "logp": uniform(-3, 0),
        "old_logp": uniform(-3, 0),
        "behaviour_logp": uniform(-3, 0),
        "ref_logp": uniform(-3, 0),
        "entropy": uniform(0, 3),
        "weights": uniform(0.1, 1),
        "advantages": torch.randn(rows, generator=draw, dtype=torch.float64),
        "mask": torch.rand(rows, length, generator=draw) < 0.5,
    }


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
    del batch["weights"]
    plain, _ = loss_of(batch, LossConfig())
    cfg = LossConfig(kl_coef=0.5, kl_estimator=KlEstimator.K3)
    loss, sums = loss_of(batch, cfg)
    assert (loss - plain).item() == pytest.approx(0.5 * (sums["ref_kl"] / sums["tokens"]).item())


def test_the_entropy_is_a_bonus_with_its_coefficient_and_a_stat_without() -> None:
    batch = random_batch(0, 3, 5)
    del batch["weights"]
    plain, sums = loss_of(batch, LossConfig())
    loss, _ = loss_of(batch, LossConfig(entropy_coef=0.5))
    assert (plain - loss).item() == pytest.approx(0.5 * (sums["entropy"] / sums["tokens"]).item())
    bare = {name: value for name, value in batch.items() if name != "entropy"}
    assert loss_of(bare, LossConfig())[0] == plain


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


def test_a_missing_input_is_an_error() -> None:
    batch = random_batch(2, 1, 2)
    bare = {k: batch[k] for k in ("logp", "old_logp", "advantages", "mask")}
    with pytest.raises(ValueError, match="behaviour_logp"):
        loss_of(bare, LossConfig(importance_cap=2.0))
    with pytest.raises(ValueError, match="ref_logp"):
        loss_of(bare, LossConfig(kl_coef=0.1))
    with pytest.raises(ValueError, match="entropy"):
        loss_of(bare, LossConfig(entropy_coef=0.1))


def test_advantages_a_token_equal_advantages_a_sequence() -> None:
    batch = random_batch(3, 3, 4)
    by_sequence, _ = loss_of(batch, LossConfig())
    batch["advantages"] = batch["advantages"].unsqueeze(1).expand(3, 4)
    by_token, _ = loss_of(batch, LossConfig())
    assert by_sequence == by_token


def naive_loss(batch: dict[str, Tensor], cfg: LossConfig) -> Tensor:
    """The formula of the documentation, token by token, with Python's own control flow."""
    total = torch.zeros((), dtype=torch.float64)
    for b, t in batch["mask"].nonzero().tolist():
        logp, old, advantage = batch["logp"][b, t], batch["old_logp"][b, t], batch["advantages"][b]
        log_ratio = logp - old
        if cfg.surrogate is Surrogate.GSPO:
            row = batch["mask"][b]
            mean = (batch["logp"][b][row] - batch["old_logp"][b][row]).mean()
            log_ratio = mean.detach() + logp - logp.detach()
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - cfg.clip_low, 1 + cfg.clip_high)
        if cfg.surrogate is Surrogate.CISPO:
            loss = -clipped.item() * advantage * logp
        else:
            loss = -min(ratio * advantage, clipped * advantage)
            if cfg.dual_clip is not None and advantage < 0:
                loss = min(loss, -cfg.dual_clip * advantage)
        if cfg.importance_cap is not None:
            loss = loss * min((old - batch["behaviour_logp"][b, t]).exp(), cfg.importance_cap)
        gap = batch["ref_logp"][b, t] - logp
        kl = {"k1": -gap, "k2": gap**2 / 2, "k3": gap.exp() - 1 - gap}[cfg.kl_estimator]
        loss = loss + cfg.kl_coef * kl - cfg.entropy_coef * batch["entropy"][b, t]
        total = total + batch["weights"][b, t] * loss
    if cfg.aggregation is Aggregation.CONSTANT:
        return total / max(int(batch["mask"].any(-1).sum()), 1)
    own = batch["weights"][batch["mask"]].sum()
    return total / own if own > 0 else total


configurations = st.builds(
    LossConfig,
    surrogate=st.sampled_from(Surrogate),
    clip_low=st.sampled_from([3e-4, 0.2]),
    clip_high=st.sampled_from([4e-4, 0.28]),
    dual_clip=st.sampled_from([None, 1.5]),
    kl_coef=st.sampled_from([0.0, 0.1]),
    kl_estimator=st.sampled_from(KlEstimator),
    entropy_coef=st.sampled_from([0.0, 0.01]),
    importance_cap=st.sampled_from([None, 2.0]),
    aggregation=st.sampled_from(Aggregation),
)
batches = st.builds(random_batch, st.integers(0, 2**31), st.integers(1, 5), st.integers(1, 6))


def value_and_gradients(
    loss: Tensor, batch: dict[str, Tensor]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    inputs = batch["logp"], batch["entropy"]
    by_logp, by_entropy = torch.autograd.grad(
        loss, inputs, allow_unused=True, materialize_grads=True
    )
    return loss.detach(), by_logp, by_entropy


@settings(deadline=None)
@given(batches, configurations)
def test_the_loss_and_its_gradient_are_those_of_the_naive_formula(
    batch: dict[str, Tensor], cfg: LossConfig
) -> None:
    assume(batch["mask"].any())
    batch["logp"].requires_grad_()
    batch["entropy"].requires_grad_()
    expected = value_and_gradients(naive_loss(batch, cfg), batch)
    actual = value_and_gradients(loss_of(batch, cfg)[0], batch)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


@settings(deadline=None)
@given(batches, configurations)
def test_a_group_of_equal_rewards_has_no_gradient(
    batch: dict[str, Tensor], cfg: LossConfig
) -> None:
    """Its advantages are 0 (see test_score.py); bonus and KL are no part of the rewards."""
    batch["advantages"] = torch.zeros_like(batch["advantages"])
    batch["logp"].requires_grad_()
    loss, _ = loss_of(batch, replace(cfg, kl_coef=0.0, entropy_coef=0.0))
    (gradient,) = torch.autograd.grad(loss, batch["logp"])
    assert loss == 0 and not gradient.any()


@settings(deadline=None)
@given(batches, configurations, st.integers(0, 5))
def test_microbatches_sum_to_one_big_batch(
    batch: dict[str, Tensor], cfg: LossConfig, cut: int
) -> None:
    logp = batch["logp"].requires_grad_()
    normaliser = share_of_normaliser(batch["weights"], batch["mask"], cfg.aggregation).item()

    whole, sums = loss_of(batch, cfg)
    (gradient,) = torch.autograd.grad(whole, logp)
    parts = torch.zeros((), dtype=torch.float64)
    part_sums = {name: torch.zeros(()) for name in sums}
    for rows_of in (slice(0, cut), slice(cut, None)):
        part = {name: value[rows_of] for name, value in batch.items()}
        loss, stats = loss_of(part, cfg, normaliser)
        parts = parts + loss
        part_sums = {name: part_sums[name] + stats[name] for name in sums}
    (sum_of_gradients,) = torch.autograd.grad(parts, logp)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(sum_of_gradients, gradient)
    torch.testing.assert_close(part_sums, sums, check_dtype=False)


@settings(deadline=None)
@given(batches, configurations, st.randoms())
def test_the_order_of_the_sequences_does_not_matter(
    batch: dict[str, Tensor], cfg: LossConfig, random: Random
) -> None:
    order = list(range(len(batch["mask"])))
    random.shuffle(order)
    shuffled = {name: value[order] for name, value in batch.items()}
    torch.testing.assert_close(loss_of(shuffled, cfg), loss_of(batch, cfg))


@settings(deadline=None)
@given(batches, configurations)
def test_tokens_outside_the_mask_change_nothing(batch: dict[str, Tensor], cfg: LossConfig) -> None:
    poisoned = {
        name: torch.where(batch["mask"], value, torch.nan) if value.is_floating_point() else value
        for name, value in batch.items()
        if value.dim() == 2
    }
    poisoned["advantages"] = batch["advantages"]
    results = []
    for each in (batch, poisoned):
        logp = each["logp"].detach().requires_grad_()
        loss, sums = loss_of(each | {"logp": logp}, cfg)
        results.append((loss, sums, torch.autograd.grad(loss, logp)[0]))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


@pytest.mark.parametrize("preset", ["clip", "gspo", "cispo"])
def test_float32_stays_finite_where_the_policies_have_nothing_in_common(preset: str) -> None:
    logp = torch.tensor([[-1e4, 0.0]], requires_grad=True)
    old = torch.tensor([[0.0, -1e4]])
    cfg = LossConfig(surrogate=Surrogate(preset), kl_coef=1.0, kl_estimator=KlEstimator.K3)
    loss, sums = policy_loss(
        logp, old, torch.tensor([-1.0]), torch.ones(1, 2, dtype=torch.bool), cfg, ref_logp=old
    )
    (gradient,) = torch.autograd.grad(loss, logp)
    assert gradient.isfinite().all()
    assert all(value.isfinite() for value in sums.values())
