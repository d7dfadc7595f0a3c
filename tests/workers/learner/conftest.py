"""Tiny policies and trajectories for the learner's tests."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from ray.actor import ActorHandle
from transformers import Qwen3Config, Qwen3ForCausalLM

from orchestra_ray.core.records import Trajectory, Turn
from orchestra_ray.core.states import Stop
from orchestra_ray.weights.actor import RemoteWeightRegistry

from ...hub_folders import as_hubs_ship
from .training import LENGTHS

VOCAB = 128


@pytest.fixture(scope="session", params=[True, False], ids=["tied", "untied"])
def any_tiny_model(request: pytest.FixtureRequest) -> Qwen3ForCausalLM:
    return make_tiny_model(tied=request.param)


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny_qwen3")
    make_tiny_model(tied=True).save_pretrained(path)
    (path / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    return as_hubs_ship(path)


def make_tiny_model(tied: bool) -> Qwen3ForCausalLM:
    torch.manual_seed(0)
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=512,
            tie_word_embeddings=tied,
            initializer_range=0.2,
        )
    )


@pytest.fixture(scope="session")
def make_trajectory() -> Callable[[int, int], Trajectory]:
    def make(seed: int, length: int) -> Trajectory:
        """A prompt, a response, an observation and a response again; log-probabilities at will."""
        draw = np.random.default_rng(seed)
        mask = np.zeros(length, bool)
        mask[length // 4 : length // 2] = True
        mask[3 * length // 4 :] = True
        mask[0] = False
        return Trajectory(
            episode_id=f"episode-{seed}",
            tokens_T=draw.integers(VOCAB, size=length, dtype=np.int32),
            mask_T=mask,
            logprobs_T=np.where(mask, draw.uniform(-6, -3, length), 0).astype(np.float32),
            versions_T=np.where(mask, 0, -1).astype(np.int32),
            turns=(
                Turn(max(1, length // 4), length // 2, format_ok=True),
                Turn(3 * length // 4, length, format_ok=seed % 2 == 0),
            ),
            ledger=(),
            answer=None,
            stop=Stop.ANSWERED,
        )

    return make


@pytest.fixture(scope="module")
def trajectories(make_trajectory: Callable[[int, int], Trajectory]) -> list[Trajectory]:
    return [make_trajectory(seed, length) for seed, length in enumerate(LENGTHS)]


@pytest.fixture(scope="module")
def registry(ray_cluster: str) -> ActorHandle:
    return cast(ActorHandle, RemoteWeightRegistry.options(num_cpus=0).remote())
