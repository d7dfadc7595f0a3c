"""Engines that serve tiny random models, and an episode context without an engine."""

import asyncio
import os
import re
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
import ray
import torch
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from orchestra_ray.config import Config
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.weights.actor import RegistryHandle, publish, start_registry
from orchestra_ray.weights.buckets import Manifest
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.context import context_of
from orchestra_ray.workers.rollout.engine import Engine
from orchestra_ray.workers.rollout.episode import EpisodeContext
from orchestra_ray.workers.rollout.parsing import parse_hermes
from orchestra_ray.workers.rollout.policies import Router, routers

from ...hub_folders import as_hubs_ship
from .acting import Direct

T = TypeVar("T")
VOCABULARY = 256
DEADLINE_S = 120.0
BUCKET_BYTES = 2**16  # several buckets for the tiny model


def tiny_model(seed: int) -> Qwen3ForCausalLM:
    """Random weights that are far from uniform, so that other weights say other tokens."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    return Qwen3ForCausalLM(config).float().eval()


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    tiny_model(seed=0).save_pretrained(path)
    return as_hubs_ship(path)


@pytest.fixture(scope="session")
def tiny_config(quickstart: Config) -> Config:
    limits = replace(quickstart.rollout, max_prompt_tokens=512, max_response_tokens=512)
    return replace(quickstart, rollout=limits)


@dataclass(frozen=True)
class Served:
    """An engine connected to a weight registry, and its event loop."""

    engine: Engine
    registry: RegistryHandle
    runner: asyncio.Runner

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asyncio.wait_for(work, DEADLINE_S))

    def publish(self, version: int, named: Iterable[tuple[str, Tensor]]) -> Manifest:
        return publish(self.registry.actor, version, named, BUCKET_BYTES, DEADLINE_S)


@pytest.fixture(scope="session")
def path_without_compilers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that is on the PATH but C and C++ compilers: vLLM asks for lscpu."""
    folder = tmp_path_factory.mktemp("bin")
    compilers = re.compile(r"(.*-)?(cc|c\+\+|gcc|g\+\+|cpp|clang|clang\+\+|c89|c99)(-.*)?")
    for directory in map(Path, os.environ["PATH"].split(os.pathsep)):
        for tool in directory.iterdir() if directory.is_dir() else ():
            link = folder / tool.name
            if not compilers.fullmatch(tool.name) and not link.is_symlink():
                link.symlink_to(tool)
    return folder


def serve(
    config: Config, model_path: Path, gcs_address: str, path_without_compilers: Path
) -> Iterator[Served]:
    namespace = f"engine-{uuid4().hex}"
    registry = start_registry(namespace)
    with asyncio.Runner() as runner:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", str(path_without_compilers))
            environment = dict(os.environ)
            engine = runner.run(Engine.start(config, str(model_path), seed=0))
            assert dict(os.environ) == environment
        served = Served(engine, registry, runner)
        served.run(engine.warm_up())
        served.run(engine.init_transfer(gcs_address, namespace, registry.name))
        yield served
        served.run(engine.stop())
    ray.kill(registry.actor)


@pytest.fixture(scope="module")
def served(
    tiny_config: Config, tiny_model_path: Path, ray_cluster: str, path_without_compilers: Path
) -> Iterator[Served]:
    """Shared by a module's tests: leave it serving."""
    yield from serve(tiny_config, tiny_model_path, ray_cluster, path_without_compilers)


@pytest.fixture
def expendable(
    tiny_config: Config, tiny_model_path: Path, ray_cluster: str, path_without_compilers: Path
) -> Iterator[Served]:
    """An engine for one test, to be broken, whose control calls have little time."""
    config = replace(tiny_config, weights=replace(tiny_config.weights, deadline_s=5.0))
    yield from serve(config, tiny_model_path, ray_cluster, path_without_compilers)


@pytest.fixture
def episode_context(
    chat: Chat, catalogue: Catalogue, quickstart: Config, local_spend: Callable[[], Any]
) -> EpisodeContext:
    return EpisodeContext(
        chat=chat,
        context=context_of(chat, quickstart.rollout, submit=True),
        parse=parse_hermes,
        policies={name: Router(chat, choose) for name, choose in routers(catalogue).items()},
        tools=Direct(catalogue, local_spend()),
        model=quickstart.model,
        limits=quickstart.rollout,
        price_sheet=catalogue.price_sheet,
        submit=True,
    )
