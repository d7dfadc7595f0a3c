"""A model folder in the form of a hub's, from the check before a run to a loadable checkpoint.

Tied, with the alias of its output layer and an old buffer, in shards, with two stop tokens, and
with a template that opens the thought.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import ray
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

from orchestra_ray.cli import findings
from orchestra_ray.config import Config
from orchestra_ray.config.model_folder import stop_token_ids
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.records import Caller, Trajectory, Turn
from orchestra_ray.core.states import Stop
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.weights.actor import RegistryHandle, start_registry
from orchestra_ray.weights.tensors import check_folder
from orchestra_ray.workers.learner.actor import POLICY, LearnerGroup
from orchestra_ray.workers.learner.parts import TrainingSequence
from orchestra_ray.workers.rollout.actor import ModelPolicy
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.engine import Engine
from orchestra_ray.workers.rollout.model_check import check_model
from orchestra_ray.workers.rollout.parsing import write_hermes
from orchestra_ray.workers.rollout.policies import Completion, PolicyInput

from .hub_folders import as_hubs_ship
from .workers.rollout.templates import OPENS_THOUGHT, with_template

TOKENS = 24
LATER_STOP = 5  # index of the token that becomes a stop


@pytest.fixture(scope="module")
def shipped(policy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = with_template(policy_folder, OPENS_THOUGHT, tmp_path_factory.mktemp("shipped"))
    torch.manual_seed(0)
    shape = Qwen3Config(
        vocab_size=len(AutoTokenizer.from_pretrained(folder)),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=None,
    )
    Qwen3ForCausalLM(shape).float().save_pretrained(folder)
    chat = Chat(str(folder))
    return as_hubs_ship(folder, stop_ids=[chat.end_id, chat.control_ids["<|endoftext|>"]])


@pytest.fixture(scope="module")
def config(quickstart: Config, shipped: Path) -> Config:
    model = replace(quickstart.model, path=str(shipped), tiny=None)
    limits = replace(quickstart.rollout, max_prompt_tokens=256, max_response_tokens=TOKENS)
    learner = replace(quickstart.learner, ranks=1, lr=1e-2, start_deadline_s=120.0)
    return replace(quickstart, model=model, rollout=limits, learner=learner)


def test_such_a_folder_passes_the_check_before_a_run(config: Config, shipped: Path) -> None:
    check_model(config, str(shipped))


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(
    config: Config, shipped: Path, tmp_path: Path
) -> None:
    Qwen3ForCausalLM(Qwen3Config.from_pretrained(shipped, vocab_size=300)).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(shipped).save_pretrained(tmp_path)
    small = replace(config, model=replace(config.model, path=str(tmp_path)))
    with pytest.raises(ConfigError, match=r"its tokenizer has \d+ tokens, its model 300;"):
        check_model(small, str(tmp_path))


def test_a_refusal_of_the_hub_is_one_line(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"model.path: owner/gated is no folder here.*; give a"):
        check_model(config, "owner/gated")


def test_the_doctor_looks_at_the_model_of_a_configuration(
    config: Config, shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "MODULES", ())
    whole = {finding.subject: finding for finding in findings.findings(config)}
    assert whole["model"].verdict is findings.Verdict.OK
    other = with_template(shipped, "{% for m in messages %}{{ m.content }}{% endfor %}", tmp_path)
    for name in ("config.json", "generation_config.json", *(p.name for p in shipped.glob("m*"))):
        (other / name).symlink_to(shipped / name)
    strange = replace(config, model=replace(config.model, path=str(other)))
    found = {finding.subject: finding for finding in findings.findings(strange)}["model"]
    assert found.verdict is findings.Verdict.FAIL and "no generation prompt" in found.detail


@dataclass(frozen=True)
class Trained:
    """Responses of an engine with the trained weights, and their checkpoint."""

    prompt_ids: list[int]
    response: Completion
    stopped: Completion
    checkpoint: Path


@pytest.fixture(scope="module")
def trained(
    config: Config,
    shipped: Path,
    sampler: GroupSampler,
    ray_cluster: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Trained]:
    folder, namespace = tmp_path_factory.mktemp("saved"), f"shipped-{uuid4().hex}"
    registry = start_registry(namespace)
    group = replace(sampler.group(0, 1), greedy=True)
    prompt_ids = Chat(str(shipped)).opening([{"role": "user", "content": "Which one?"}], [])
    policy_input = PolicyInput("r", Caller(1, "g", "e", 0), prompt_ids, group, 0, (), 60.0)

    async def respond(engine: Engine) -> Completion:
        """By a worker's own policy, with the stop tokens that the folder names now."""
        said = await ModelPolicy(engine, config, Chat(str(shipped)).stop_ids).respond(policy_input)
        assert isinstance(said, Completion), said
        return said

    async def main() -> Trained:
        learner = await train(config, shipped, registry, folder)
        async with engine_on(config, shipped, ray_cluster, namespace, registry) as engine:
            await engine.update_weights(1)
            await learner.stop()
            said = await respond(engine)
            stops = [*stop_token_ids(str(shipped)), said.token_ids[LATER_STOP]]
            (shipped / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}))
            return Trained(prompt_ids, said, await respond(engine), folder / POLICY)

    yield asyncio.run(main())
    ray.kill(registry.actor)


async def train(
    config: Config, shipped: Path, registry: RegistryHandle, folder: Path
) -> LearnerGroup:
    """One step on two made-up responses of one prompt; publishes version 1 and saves it.

    The group stays alive, since the published bytes are in its memory.
    """
    chat = Chat(str(shipped))
    prompt_ids = chat.opening([{"role": "user", "content": "Which one?"}], [])
    group = await LearnerGroup.start(config, shipped, registry.actor)
    sequences = []
    for text, advantage in (("left", 1.0), ("right", -1.0)):
        trajectory = one_turn(prompt_ids, write_hermes(chat, text, thought="I choose."))
        tokens = trajectory.tokens_T.size
        sequences.append(TrainingSequence(ray.put(trajectory), 0, (advantage,), tokens, tokens))
    stats = await group.train(sequences)
    assert stats["grad_norm"] > 0
    await group.publish(1)
    await group.save(folder)
    return group


def one_turn(prompt_ids: list[int], response_ids: list[int]) -> Trajectory:
    start, end = len(prompt_ids), len(prompt_ids) + len(response_ids)
    mask_T = np.arange(end) >= start
    return Trajectory(
        episode_id="e",
        tokens_T=np.array([*prompt_ids, *response_ids], np.int32),
        mask_T=mask_T,
        logprobs_T=np.where(mask_T, -5.0, 0.0).astype(np.float32),
        versions_T=np.where(mask_T, 0, -1).astype(np.int32),
        turns=(Turn(start, end, True),),
        ledger=(),
        answer=None,
        stop=Stop.ANSWERED,
    )


@asynccontextmanager
async def engine_on(
    config: Config, shipped: Path, gcs_address: str, namespace: str, registry: RegistryHandle
) -> AsyncIterator[Engine]:
    engine = await Engine.start(config, str(shipped), seed=0)
    try:
        await engine.init_transfer(gcs_address, namespace, registry.name)
        yield engine
    finally:
        await engine.stop()


@pytest.mark.cpu
def test_the_engine_serves_what_was_trained(trained: Trained) -> None:
    model = AutoModelForCausalLM.from_pretrained(trained.checkpoint, dtype=torch.float32)
    ids = trained.prompt_ids + list(trained.response.token_ids)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, len(trained.prompt_ids) - 1 : -1]
    assert logits.argmax(-1).tolist() == list(trained.response.token_ids)
    chosen = logits.log_softmax(-1).gather(-1, torch.tensor(trained.response.token_ids)[:, None])
    assert (chosen[:, 0] - torch.tensor(list(trained.response.logprobs))).abs().max() < 1e-3
    assert set(trained.response.versions) == {1}


@pytest.mark.cpu
def test_a_response_stops_at_every_token_that_the_generation_config_names(
    trained: Trained,
) -> None:
    free = list(trained.response.token_ids)
    first = free.index(free[LATER_STOP])
    assert list(trained.stopped.token_ids) == free[: first + 1]
    assert trained.stopped.finish == "stop"


@pytest.mark.cpu
def test_the_checkpoint_is_a_folder_that_a_run_can_start_from(
    trained: Trained, config: Config, shipped: Path
) -> None:
    check_folder(trained.checkpoint)
    model = replace(config.model, path=str(trained.checkpoint))
    check_model(replace(config, model=model), str(trained.checkpoint))
    chat, first = Chat(str(trained.checkpoint)), Chat(str(shipped))
    assert set(chat.stop_ids) <= set(first.stop_ids) and len(set(chat.stop_ids)) == 2
    question = [{"role": "user", "content": "Which one?"}]
    assert chat.opening(question, []) == first.opening(question, [])
