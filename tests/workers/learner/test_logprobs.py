"""Chunked log-probabilities equal the plain computation, packed or padded, gradients too."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import Qwen3ForCausalLM

from orchestra_ray.core.records import Trajectory
from orchestra_ray.workers.learner.batch import IGNORE, Microbatch, Sample, collate
from orchestra_ray.workers.learner.logprobs import Entropy, TokenLogprobs

CPU = torch.device("cpu")
TEMPERATURE = 0.7


def run(model: TokenLogprobs, batch: Microbatch, entropy: Entropy = Entropy.LEFT_OUT) -> Tensor:
    return model(
        batch.input_ids,
        batch.attention_mask,
        batch.position_ids,
        batch.labels,
        TEMPERATURE,
        entropy,
    )


def gradients(model: torch.nn.Module, value: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    value.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def samples(make_trajectory: Callable[[int, int], Trajectory]) -> list[Sample]:
    return [
        Sample(make_trajectory(seed, length), float(seed))
        for seed, length in enumerate((17, 5, 40, 29))
    ]


def test_batches_hold_the_trajectories_shifted_by_one(samples: list[Sample]) -> None:
    for packed in (False, True):
        batch = collate(samples, packed=packed, device=CPU)
        labels = batch.rows(batch.labels)
        for row, sample in enumerate(samples):
            t = sample.trajectory
            sampled = torch.from_numpy(t.mask_T[1:])
            last = len(t.tokens_T) - 1
            assert batch.mask_B_T[row, :last].tolist() == sampled.tolist()
            assert not batch.mask_B_T[row, last:].any()
            assert labels[row, :last][sampled].tolist() == t.tokens_T[1:][t.mask_T[1:]].tolist()
            assert (labels[row, :last][~sampled] == IGNORE).all()
            assert batch.behaviour_logp_B_T[row, :last].tolist() == t.logprobs_T[1:].tolist()
        assert batch.advantages_B_T[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0]
        assert batch.lengths_B == (17, 5, 40, 29)


def test_a_first_token_that_counts_as_sampled_is_an_error(samples: list[Sample]) -> None:
    samples[0].trajectory.mask_T[0] = True
    with pytest.raises(ValueError, match="episode-0"):
        collate(samples, packed=False, device=CPU)


def test_chunks_equal_the_plain_log_softmax_and_its_gradients(
    any_tiny_model: Qwen3ForCausalLM, samples: list[Sample]
) -> None:
    batch = collate(samples, packed=False, device=CPU)
    logits = any_tiny_model(batch.input_ids, attention_mask=batch.attention_mask).logits
    everything = (logits.float() / TEMPERATURE).log_softmax(-1)
    plain = everything.gather(-1, batch.labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    plain = torch.where(batch.labels == IGNORE, 0.0, plain)
    weights = torch.randn(plain.shape, generator=torch.Generator().manual_seed(0))
    expected = gradients(any_tiny_model, (plain * weights).sum())

    chunked = run(TokenLogprobs(any_tiny_model, chunk_tokens=7), batch)
    assert chunked.dtype == torch.float32
    torch.testing.assert_close(chunked, plain)
    actual = gradients(any_tiny_model, (chunked * weights).sum())
    torch.testing.assert_close(actual, expected)


def test_the_output_layer_sees_no_more_than_a_chunk_at_once(
    any_tiny_model: Qwen3ForCausalLM, samples: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, linear = [], torch.nn.functional.linear

    def counting(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight is any_tiny_model.lm_head.weight:
            rows.append(x.shape[0])
        return linear(x, weight, bias)

    monkeypatch.setattr(torch.nn.functional, "linear", counting)
    batch = collate(samples, packed=False, device=CPU)
    run(TokenLogprobs(any_tiny_model, chunk_tokens=7), batch).sum().backward()
    assert max(rows) == 7
    assert sum(rows) == 2 * int(batch.mask_B_T.sum())  # once forward, once again backward


@pytest.mark.parametrize("entropy", [Entropy.MEASURED, Entropy.TRAINED])
def test_entropies_in_chunks_equal_the_plain_ones_and_their_gradients(
    any_tiny_model: Qwen3ForCausalLM, samples: list[Sample], entropy: Entropy
) -> None:
    batch = collate(samples, packed=False, device=CPU)
    model = TokenLogprobs(any_tiny_model, chunk_tokens=7)
    everything = any_tiny_model(batch.input_ids, attention_mask=batch.attention_mask).logits
    plain = torch.distributions.Categorical(logits=everything.float() / TEMPERATURE).entropy()
    plain = torch.where(batch.labels == IGNORE, 0.0, plain)
    weights = torch.randn(plain.shape, generator=torch.Generator().manual_seed(0))
    expected = gradients(any_tiny_model, (plain * weights).sum())

    logp, entropies = run(model, batch, entropy)
    torch.testing.assert_close(entropies, plain)
    torch.testing.assert_close(logp, run(model, batch), rtol=0, atol=0)
    actual = gradients(any_tiny_model, (entropies * weights).sum())
    if entropy is Entropy.MEASURED:
        assert all(not gradient.any() for gradient in actual.values())
    else:
        torch.testing.assert_close(actual, expected)


def test_packed_and_padded_give_the_same_log_probabilities(
    any_tiny_model: Qwen3ForCausalLM, samples: list[Sample]
) -> None:
    model = TokenLogprobs(any_tiny_model)
    padded, packed = (collate(samples, packed=p, device=CPU) for p in (False, True))
    torch.testing.assert_close(
        packed.rows(run(model, packed)), padded.rows(run(model, padded)), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("entropy", list(Entropy))
@pytest.mark.parametrize("packed", [False, True])
def test_a_rank_without_work_still_reaches_every_parameter(
    any_tiny_model: Qwen3ForCausalLM, packed: bool, entropy: Entropy
) -> None:
    batch = collate([], packed=packed, device=CPU)
    assert not batch.mask_B_T.any()
    logp = run(TokenLogprobs(any_tiny_model), batch, entropy)
    grads = gradients(any_tiny_model, logp.sum())
    assert grads.keys() == {name for name, _ in any_tiny_model.named_parameters()}
    assert all(not grad.any() for grad in grads.values())
