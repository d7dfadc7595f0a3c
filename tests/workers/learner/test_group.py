"""The real DeepSpeed in two Ray actors: every ZeRO stage makes the update of plain torch."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from ray.actor import ActorHandle
from torch import Tensor
from transformers import AutoModelForCausalLM

from orchestra_ray.config.enums import Aggregation, Surrogate, ZeroStage
from orchestra_ray.config.learning import LossConfig
from orchestra_ray.config.schema import Config
from orchestra_ray.core.records import Trajectory
from orchestra_ray.weights.buckets import read_bucket
from orchestra_ray.workers.learner.actor import OPTIMIZER, POLICY, LearnerGroup
from orchestra_ray.workers.learner.batch import Sample, collate
from orchestra_ray.workers.learner.logprobs import Entropy, TokenLogprobs
from orchestra_ray.workers.learner.loss import policy_loss
from orchestra_ray.workers.learner.parts import part_of

from .training import ADVANTAGES, LENGTHS, STEPS, advantages_by_turn, make_config, train

pytestmark = pytest.mark.cpu

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


@dataclass(frozen=True)
class Outcome:
    """What was seen of one learner: the metrics of its steps and the weights after the last."""

    metrics: list[dict[str, float]]
    weights: dict[str, Tensor]


def samples_of(trajectories: list[Trajectory]) -> list[Sample]:
    """Of each trajectory one, with its advantage."""
    return [Sample(*pair) for pair in zip(trajectories, ADVANTAGES, strict=True)]


def published(group: LearnerGroup, registry: ActorHandle, version: int) -> dict[str, Tensor]:
    asyncio.run(group.publish(version))
    manifest, refs = ray.get(registry.get.remote(version), timeout=30)
    return {
        name: tensor.clone()
        for bucket, ref in enumerate(refs)
        for name, tensor in read_bucket(ray.get(ref, timeout=30), manifest.in_bucket(bucket))
    }


def plain_torch(config: Config, path: Path, samples: list[Sample]) -> Outcome:
    """One process, one batch an optimizer step, no DeepSpeed."""
    learner = config.learner
    models = [AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for _ in range(2)]
    policy, reference = (TokenLogprobs(model) for model in models)
    optimizer = torch.optim.AdamW(
        policy.parameters(),
        lr=learner.lr,
        betas=(learner.beta1, learner.beta2),
        eps=learner.adam_eps,
        weight_decay=learner.weight_decay,
    )
    batches = []
    for first in range(learner.minibatches):
        chosen, cpu = samples[first :: learner.minibatches], torch.device("cpu")
        batches.append(collate(chosen, packed=False, device=cpu, loss=learner.loss))

    def logp_of(module: TokenLogprobs, batch: Any, entropy: Entropy = Entropy.LEFT_OUT) -> Tensor:
        inputs = batch.input_ids, batch.attention_mask, batch.position_ids, batch.labels
        return module(*inputs, 1.0, entropy)

    metrics = []
    for _ in range(STEPS):
        with torch.no_grad():
            old = [logp_of(policy, batch) for batch in batches]
        losses, norms = [], []
        for batch, old_logp in zip(batches, old, strict=True):
            logp, entropy = logp_of(policy, batch, Entropy.TRAINED)
            loss, _ = policy_loss(
                logp,
                old_logp,
                batch.advantages_B_T,
                batch.mask_B_T,
                learner.loss,
                batch.behaviour_logp_B_T,
                logp_of(reference, batch).detach(),
                entropy,
                weights=batch.weights_B_T,
            )
            optimizer.zero_grad()
            loss.backward()
            norms.append(
                torch.nn.utils.clip_grad_norm_(policy.parameters(), learner.grad_clip).item()
            )
            losses.append(loss.item())
            steps_done = len(metrics) * learner.minibatches + len(norms) - 1
            warm = min(1.0, (steps_done + 1) / learner.lr_warmup_steps)
            done = min(1.0, steps_done / (STEPS * learner.minibatches - 1))
            optimizer.param_groups[0]["lr"] = learner.lr * warm * (1 - 0.5 * done)
            optimizer.step()
        metrics.append({"loss": sum(losses) / len(losses), "grad_norm": sum(norms) / len(norms)})
    weights = {name: p.detach() for name, p in models[0].named_parameters()}
    return Outcome(metrics, weights)


def assert_same(outcome: Outcome, expected: Outcome) -> None:
    for seen, wanted in zip(outcome.metrics, expected.metrics, strict=True):
        assert {name: seen[name] for name in wanted} == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    torch.testing.assert_close(outcome.weights, expected.weights, **CLOSE)


@pytest.mark.parametrize("stage", list(ZeroStage))
def test_every_stage_makes_the_update_of_plain_torch(
    stage: ZeroStage,
    registry: ActorHandle,
    tiny_model_path: Path,
    trajectories: list[Trajectory],
    tmp_path: Path,
) -> None:
    config = make_config(stage)
    group = asyncio.run(LearnerGroup.start(config, tiny_model_path, registry))
    refs = [ray.put(t) for t in trajectories]
    metrics = [train(group, refs, trajectories) for _ in range(STEPS)]
    outcome = Outcome(metrics, published(group, registry, version=1))
    assert_same(outcome, plain_torch(config, tiny_model_path, samples_of(trajectories)))
    assert metrics[0]["microbatches"] > 1
    assert metrics[0]["optimizer_steps"] == 1
    assert metrics[0]["trained_tokens"] == sum(LENGTHS)
    assert metrics[0]["trained_response_tokens"] == sum(int(t.mask_T.sum()) for t in trajectories)
    assert metrics[0]["ratio"] == 1.0  # a single optimizer step is on-policy
    assert metrics[0]["logprob_gap"] > 0

    asyncio.run(group.save(tmp_path / "step_3"))
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "step_3" / POLICY, dtype=torch.float32)
    torch.testing.assert_close(
        {name: p.detach() for name, p in saved.named_parameters()}, outcome.weights, rtol=0, atol=0
    )
    tokenizer = (tmp_path / "step_3" / POLICY / "tokenizer_config.json").read_bytes()
    assert tokenizer == (tiny_model_path / "tokenizer_config.json").read_bytes()
    assert {p.name for p in (tmp_path / "step_3").iterdir()} == {POLICY, OPTIMIZER}

    # a learner that goes on from the checkpoint is the one that never stopped, bit for bit
    train(group, refs, trajectories)
    never_stopped = published(group, registry, version=2)
    asyncio.run(group.stop())
    resumed = asyncio.run(
        LearnerGroup.start(config, tiny_model_path, registry, resume=tmp_path / "step_3")
    )
    train(resumed, refs, trajectories)
    weights = published(resumed, registry, version=3)
    torch.testing.assert_close(weights, never_stopped, rtol=0, atol=0)
    asyncio.run(resumed.stop())


@pytest.mark.parametrize(
    ("stage", "loss"),
    [
        (ZeroStage.TWO, LossConfig(kl_coef=0.1, importance_cap=2.0, dual_clip=3.0)),
        (
            ZeroStage.THREE,
            LossConfig(
                surrogate=Surrogate.GSPO,
                aggregation=Aggregation.TURN,
                kl_coef=0.1,
                entropy_coef=0.01,
                drop_malformed_turns=True,
            ),
        ),
        (
            ZeroStage.TWO,
            LossConfig(
                surrogate=Surrogate.CISPO,
                aggregation=Aggregation.EPISODE,
                kl_coef=0.1,
                measure_entropy=True,
            ),
        ),
        (
            ZeroStage.THREE,
            LossConfig(aggregation=Aggregation.CONSTANT, constant_tokens=64, kl_coef=0.1),
        ),
    ],
    ids=["token", "turn", "episode", "constant"],
)
def test_several_optimizer_steps_keep_the_old_policy_and_the_reference(
    stage: ZeroStage,
    loss: LossConfig,
    registry: ActorHandle,
    tiny_model_path: Path,
    trajectories: list[Trajectory],
) -> None:
    config = make_config(stage)
    config.learner.minibatches = 2
    config.learner.gradient_checkpointing = True
    config.learner.loss = loss
    group = asyncio.run(LearnerGroup.start(config, tiny_model_path, registry))
    refs = [ray.put(t) for t in trajectories]
    metrics = [train(group, refs, trajectories) for _ in range(STEPS)]
    outcome = Outcome(metrics, published(group, registry, version=1))
    assert_same(outcome, plain_torch(config, tiny_model_path, samples_of(trajectories)))
    assert [step["optimizer_steps"] for step in metrics] == [2] * STEPS
    assert metrics[-1]["ref_kl"] > 0
    assert metrics[-1]["approx_kl"] > 0
    assert ("entropy" in metrics[-1]) is (loss.entropy_coef > 0 or loss.measure_entropy)
    sampled = sum(int(t.mask_T.sum()) for t in trajectories)
    dropped = metrics[-1]["dropped/malformed_tokens"]
    assert metrics[-1]["trained_response_tokens"] + dropped == sampled
    assert (dropped > 0) is loss.drop_malformed_turns
    asyncio.run(group.stop())


def test_turns_that_are_sequences_of_their_own_train_as_such(
    registry: ActorHandle, tiny_model_path: Path, trajectories: list[Trajectory]
) -> None:
    config = make_config(ZeroStage.TWO)
    config.learner.loss = LossConfig(aggregation=Aggregation.EPISODE)
    rebuilt = [replace(t, starts=(0, t.turns[0].end)) for t in trajectories]
    samples = [
        Sample(part_of(t, part), advantage, int(t.mask_T.sum()))
        for t, advantages in zip(rebuilt, advantages_by_turn(), strict=True)
        for part, advantage in enumerate(advantages)
    ]
    group = asyncio.run(LearnerGroup.start(config, tiny_model_path, registry))
    refs = [ray.put(t) for t in rebuilt]
    metrics = [train(group, refs, rebuilt) for _ in range(STEPS)]
    outcome = Outcome(metrics, published(group, registry, version=1))
    assert_same(outcome, plain_torch(config, tiny_model_path, samples))
    assert metrics[0]["trained_tokens"] == sum(LENGTHS)
    asyncio.run(group.stop())
