"""The real DeepSpeed in two Ray actors: every ZeRO stage makes the update of plain torch."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import ray
import torch
from ray import ObjectRef
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from torch import Tensor
from transformers import AutoModelForCausalLM

from orchestra_ray.config.schema import Aggregation, Config, LossConfig, Surrogate, ZeroStage
from orchestra_ray.core.records import Trajectory
from orchestra_ray.core.states import FailureKind
from orchestra_ray.learner.actor import OPTIMIZER, POLICY, LearnerFailed, LearnerGroup
from orchestra_ray.learner.batch import Sample, collate
from orchestra_ray.learner.logprobs import Entropy, TokenLogprobs
from orchestra_ray.learner.loss import policy_loss
from orchestra_ray.learner.parts import TrainingSequence
from orchestra_ray.weights.actor import WeightBoard
from orchestra_ray.weights.buckets import read_bucket

pytestmark = pytest.mark.cpu

LENGTHS = [44, 21, 9, 33, 58, 12, 27]
ADVANTAGES = [1.0, -1.0, (0.5, -0.5), 0.0, -2.0, (0.3, 0.9), 1.5]  # some of them one a turn
STEPS = 3
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


def make_config(stage: ZeroStage) -> Config:
    config = Config(name="learner")
    config.training.steps = STEPS
    config.model.dtype = "float32"
    learner = config.learner
    learner.zero_stage = stage
    learner.cpus_per_rank = 0.25
    learner.lr, learner.lr_warmup_steps, learner.lr_final = 1e-3, 4, 0.5
    learner.adam_eps = 1e-4  # large enough beside the gradients to be seen in the weights
    learner.grad_clip = 0.5
    learner.tokens_per_microbatch = 60  # two sequences or fewer, so several micro-batches a rank
    learner.start_deadline_s = learner.step_deadline_s = 120.0
    return config


@pytest.fixture(scope="module")
def trajectories(make_trajectory: Callable[[int, int], Trajectory]) -> list[Trajectory]:
    return [make_trajectory(seed, length) for seed, length in enumerate(LENGTHS)]


@pytest.fixture(scope="module")
def board(ray_cluster: str) -> ActorHandle:
    return cast(ActorHandle, WeightBoard.options(num_cpus=0).remote())


@dataclass(frozen=True)
class Outcome:
    """What was seen of one learner: the metrics of its steps and the weights after the last."""

    metrics: list[dict[str, float]]
    weights: dict[str, Tensor]


def train(
    group: LearnerGroup, refs: list[ObjectRef], trajectories: list[Trajectory]
) -> dict[str, float]:
    sequences = [
        TrainingSequence(
            ref,
            0,
            advantage if isinstance(advantage, tuple) else [advantage] * len(t.turns),
            length,
            int(t.mask_T.sum()),
        )
        for ref, t, advantage, length in zip(refs, trajectories, ADVANTAGES, LENGTHS, strict=True)
    ]
    return asyncio.run(group.train(sequences))


def published(group: LearnerGroup, board: ActorHandle, version: int) -> dict[str, Tensor]:
    asyncio.run(group.publish(version))
    manifest, refs = ray.get(board.get.remote(version), timeout=30)
    return {
        name: tensor.clone()
        for bucket, ref in enumerate(refs)
        for name, tensor in read_bucket(ray.get(ref, timeout=30), manifest.in_bucket(bucket))
    }


def plain_torch(config: Config, path: Path, trajectories: list[Trajectory]) -> Outcome:
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
        chosen = range(first, len(trajectories), learner.minibatches)
        samples = [Sample(trajectories[i], ADVANTAGES[i]) for i in chosen]
        cpu = torch.device("cpu")
        batches.append(collate(samples, packed=False, device=cpu, loss=learner.loss))

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
    board: ActorHandle,
    tiny_model_path: Path,
    trajectories: list[Trajectory],
    tmp_path: Path,
) -> None:
    config = make_config(stage)
    group = asyncio.run(LearnerGroup.start(config, tiny_model_path, board))
    refs = [ray.put(t) for t in trajectories]
    metrics = [train(group, refs, trajectories) for _ in range(STEPS)]
    outcome = Outcome(metrics, published(group, board, version=1))
    assert_same(outcome, plain_torch(config, tiny_model_path, trajectories))
    assert metrics[0]["microbatches"] > 1
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
    never_stopped = published(group, board, version=2)
    asyncio.run(group.stop())
    resumed = asyncio.run(
        LearnerGroup.start(config, tiny_model_path, board, resume=tmp_path / "step_3")
    )
    train(resumed, refs, trajectories)
    weights = published(resumed, board, version=3)
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
    board: ActorHandle,
    tiny_model_path: Path,
    trajectories: list[Trajectory],
) -> None:
    config = make_config(stage)
    config.learner.minibatches = 2
    config.learner.gradient_checkpointing = True
    config.learner.loss = loss
    group = asyncio.run(LearnerGroup.start(config, tiny_model_path, board))
    refs = [ray.put(t) for t in trajectories]
    metrics = [train(group, refs, trajectories) for _ in range(STEPS)]
    outcome = Outcome(metrics, published(group, board, version=1))
    assert_same(outcome, plain_torch(config, tiny_model_path, trajectories))
    assert metrics[-1]["ref_kl"] > 0
    assert metrics[-1]["approx_kl"] > 0
    assert ("entropy" in metrics[-1]) is (loss.entropy_coef > 0 or loss.measure_entropy)
    sampled = sum(int(t.mask_T.sum()) for t in trajectories)
    dropped = metrics[-1]["dropped/malformed_tokens"]
    assert metrics[-1]["trained_response_tokens"] + dropped == sampled
    assert (dropped > 0) is loss.drop_malformed_turns
    asyncio.run(group.stop())


@pytest.fixture
def config() -> Config:
    return make_config(ZeroStage.TWO)


@pytest.fixture
def placement(ray_cluster: str) -> Iterator[list[PlacementGroupSchedulingStrategy]]:
    bundles = ray.util.placement_group([{"CPU": 0.25}] * 2)
    ray.get(bundles.ready(), timeout=30)
    yield [PlacementGroupSchedulingStrategy(bundles, bundle) for bundle in range(2)]
    ray.util.remove_placement_group(bundles)


@pytest.fixture
def group(
    config: Config,
    board: ActorHandle,
    tiny_model_path: Path,
    placement: list[PlacementGroupSchedulingStrategy],
) -> Iterator[LearnerGroup]:
    group = asyncio.run(LearnerGroup.start(config, tiny_model_path, board, placement))
    yield group
    asyncio.run(group.stop())


def test_a_dead_rank_is_one_failure_and_no_hang(
    group: LearnerGroup, trajectories: list[Trajectory]
) -> None:
    started_s = time.monotonic()
    ray.kill(group.ranks[1])
    with pytest.raises(LearnerFailed) as caught:
        train(group, [ray.put(t) for t in trajectories], trajectories)
    assert caught.value.failure.kind is FailureKind.INFRASTRUCTURE
    assert caught.value.failure.where == "learner rank 1, train"
    assert time.monotonic() - started_s < 30


def test_a_trajectory_that_cannot_be_trained_names_itself_and_the_rank(
    group: LearnerGroup, trajectories: list[Trajectory]
) -> None:
    refs: list[ObjectRef] = [ray.put("not a trajectory")]
    refs += [ray.put(t) for t in trajectories[1:]]
    with pytest.raises(LearnerFailed, match=r"learner rank \d, train: AttributeError"):
        train(group, refs, trajectories)


def test_a_payload_that_never_comes_is_a_failure_at_the_deadline(
    config: Config, group: LearnerGroup, trajectories: list[Trajectory]
) -> None:
    @ray.remote(num_cpus=0)
    def never() -> None:
        time.sleep(600)

    config.learner.step_deadline_s = 1.0
    missing = never.remote()
    refs = [missing, *(ray.put(t) for t in trajectories[1:])]
    with pytest.raises(LearnerFailed) as caught:
        train(group, refs, trajectories)
    ray.cancel(missing, force=True)
    assert caught.value.failure.kind is FailureKind.DEADLINE


def test_a_model_that_is_not_there_fails_the_start(
    config: Config, board: ActorHandle, tmp_path: Path
) -> None:
    with pytest.raises(LearnerFailed, match=r"learner rank \d, start"):
        asyncio.run(LearnerGroup.start(config, tmp_path / "none", board))


def test_a_rank_without_a_place_is_an_error_before_any_starts(
    config: Config,
    board: ActorHandle,
    tiny_model_path: Path,
    placement: list[PlacementGroupSchedulingStrategy],
) -> None:
    with pytest.raises(ValueError, match="1 places for learner.ranks=2"):
        asyncio.run(LearnerGroup.start(config, tiny_model_path, board, placement[:1]))


def test_no_compiler_is_needed(tiny_model_path: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = f"""
from orchestra_ray.config.schema import Config
from orchestra_ray.learner.engine import LearnerEngine
config = Config(name="bare")
config.training.steps = 1
config.model.dtype = "float32"
config.learner.ranks = 1
engine = LearnerEngine(config, {str(tiny_model_path)!r}, 0, 1, "127.0.0.1", {port})
assert dict(engine.state_dict())
"""
    environment = {"PATH": "", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.so"))
