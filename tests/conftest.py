"""Fixtures of the whole session, such as one Ray cluster, configuration and tokenizer."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from orchestra_ray.config import Config
    from orchestra_ray.core.records import Caller, ToolRequest
    from orchestra_ray.data.catalogue import Catalogue, Entry
    from orchestra_ray.data.tasks.sampler import GroupSampler
    from orchestra_ray.spend.local import LocalSpendClient
    from orchestra_ray.workers.rollout.chat import Chat

REPOSITORY = Path(__file__).parents[1]

# This session's token: Ray's clusters require one, and every process must have it.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(16)
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["WANDB_MODE"] = "offline"

# The duration of an example depends on the machine more than on the code.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


@pytest.fixture(scope="module")
def chat_url() -> Iterator[str]:
    """The base URL of a server of chat completions for this module."""
    command = [sys.executable, str(REPOSITORY / "tests" / "cli" / "chat_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


@pytest.fixture(scope="session")
def local_spend() -> "type[LocalSpendClient]":
    from orchestra_ray.spend.local import LocalSpendClient

    return LocalSpendClient


@pytest.fixture(autouse=True, scope="session")
def in_repository() -> Iterator[None]:
    """Runs tests in the repository's root, from which configurations name their files."""
    before = Path.cwd()
    os.chdir(REPOSITORY)
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A local cluster of two CPUs; yields the address of its GCS."""
    import ray

    context = ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        namespace="tests",
        object_store_memory=512 * 2**20,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield context.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture(scope="session")
def quickstart() -> "Config":
    """The quick start's configuration without its warm start."""
    from orchestra_ray.config import load

    return load(
        ["configs/quickstart.yaml"], ["model.tiny.warmup_steps=0", "tracking.wandb=disabled"]
    )


@pytest.fixture(scope="session")
def catalogue(quickstart: "Config") -> "Catalogue":
    from orchestra_ray.data.catalogue import load_catalogue

    return load_catalogue(quickstart.catalogue.path)


@pytest.fixture(scope="session")
def policy_folder(
    quickstart: "Config", catalogue: "Catalogue", tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The quick start's model and tokenizer, untrained."""
    from orchestra_ray.data.preferences.load import load_preferences
    from orchestra_ray.sft import make_policy

    cache = str(tmp_path_factory.mktemp("cache"))
    config = replace(quickstart, model=replace(quickstart.model, cache_dir=cache))
    return make_policy(config, catalogue, load_preferences(config.catalogue))


@pytest.fixture(scope="session")
def chat(policy_folder: Path) -> "Chat":
    from orchestra_ray.workers.rollout.chat import Chat

    return Chat(str(policy_folder))


@pytest.fixture(scope="session")
def sampler(quickstart: "Config", catalogue: "Catalogue") -> "GroupSampler":
    from orchestra_ray.data.preferences.load import load_preferences
    from orchestra_ray.data.tasks.reasoning_gym import TaskSource
    from orchestra_ray.data.tasks.sampler import GroupSampler

    preferences = load_preferences(quickstart.catalogue)
    source = TaskSource.train(quickstart.tasks)
    return GroupSampler(source, catalogue, quickstart.catalogue, preferences, seed=1)


@pytest.fixture(scope="session")
def sandbox_here() -> None:
    """Skips without a sandbox; fails in CI, and where bubblewrap can be installed."""
    from orchestra_ray.sandbox.run import check

    if (problem := check()) is None:
        return
    could_install = os.geteuid() == 0 and shutil.which("apt-get") and not shutil.which("bwrap")
    if os.environ.get("CI") == "true" or could_install:
        pytest.fail(problem)
    pytest.skip(problem)


@pytest.fixture(scope="session")
def caller() -> "Caller":
    from orchestra_ray.core.records import Caller

    return Caller(step=1, group_id="g", episode_id="g/0", turn=0)


@pytest.fixture(scope="session")
def make_request(caller: "Caller") -> "Callable[..., ToolRequest]":
    """Makes a request for a catalogue entry."""
    from orchestra_ray.core.records import Task, ToolOption, ToolRequest

    def make(
        entry: "Entry",
        arguments: Mapping[str, Any] | None = None,
        call_id: str = "c",
        seed: int = 0,
    ) -> ToolRequest:
        option = ToolOption(entry.name, entry.name, entry.kind, "", entry.prices, entry.latency_s)
        task = Task("t", "family", "How much is 6 times 7?", {})
        return ToolRequest(call_id, caller, option, arguments or {}, task, seed, 0)

    return make


@pytest.fixture(scope="session")
def make_entry() -> "Callable[..., Entry]":
    """Makes a tool of 7 nano-dollars a call, with the given limits."""
    from orchestra_ray.core.money import Prices
    from orchestra_ray.data.catalogue import Entry, Kind, Limits

    def make(name: str = "tool", prices: Prices | None = None, **limits: Any) -> Entry:
        given = {"retries": 0, "context_tokens": 100, "max_output_tokens": 100, "idempotent": True}
        given |= limits
        return Entry(
            name, Kind.TOOL, "", "null", prices or Prices(call_nanousd=7), 0.0, Limits(**given)
        )

    return make


@pytest.fixture
def entries(make_entry: "Callable[..., Entry]") -> "dict[str, Entry]":
    made = [make_entry("fast"), make_entry("slow"), make_entry("slow-once", idempotent=False)]
    made.append(make_entry("fast-one", concurrency=1))
    return {entry.name: entry for entry in made}
