"""Whole evaluations through the command line: no engine, real endpoints, a cassette, a replay."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.evaluation.episode_log import FILE
from orchestra_ray.spend.ledger import FOLDER, read

pytestmark = [pytest.mark.cpu, pytest.mark.timeout(300)]
TASKS = 6
BASELINES = ["expert:solver", "random", "orchestrator:solver"]
SERVER = Path(__file__).parent / "cli" / "chat_server.py"
HLE = Path(__file__).parent / "samples" / "hle_invented.jsonl"


@dataclass
class World:
    """A folder with a catalogue, and the server of its models."""

    folder: Path
    server: subprocess.Popen[str]
    port: int

    def evaluate(self, name: str, *more: str) -> dict[str, Any]:
        """Runs `orchestra eval` and returns its summary."""
        command = [sys.executable, "-m", "orchestra_ray.cli.main", "eval"]
        command += ["--config", "configs/quickstart.yaml", "--config", str(self.folder / "e.yaml")]
        environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        done = subprocess.run(
            [*command, f"name={name}", *more],
            capture_output=True,
            text=True,
            timeout=250,
            env=environment,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads((self.folder / "runs" / name / "summary.json").read_text())

    def requests(self) -> int:
        """Returns the number of requests to the server so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/seen") as reply:
            return len(json.load(reply))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("eval")
    server = subprocess.Popen([sys.executable, str(SERVER)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    folder.joinpath("catalogue.yaml").write_text(
        f"""
models:
  - &solver
    name: solver
    description: adds
    backend: endpoint
    settings: {{base_urls: ["http://127.0.0.1:{port}/v1"], model: solver}}
    parser: boxed
    prices: {{input_usd_per_mtok: 1, cached_usd_per_mtok: 1, output_usd_per_mtok: 2}}
    latency_s: 1
    limits: {{retries: 0}}
  - <<: *solver
    name: mute
    settings: {{base_urls: ["http://127.0.0.1:{port}/v1"], model: mute}}
"""
    )
    folder.joinpath("e.yaml").write_text(
        f"""
runs_dir: {folder}/runs
model: {{cache_dir: {folder}/models, tiny: {{warmup_steps: 0}}}}
tasks: {{families: [{{name: chain_sum, topic: sums, settings: {{max_terms: 3}}}}]}}
catalogue: {{path: {folder}/catalogue.yaml, models_min: 2, models_max: 2, submit: false}}
evaluation: {{tasks: {TASKS}, policy: false, baselines: {json.dumps(BASELINES)}, bootstrap: 50}}
tracking: {{wandb: disabled}}
"""
    )
    yield World(folder, server, port)
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def first(world: World) -> dict[str, Any]:
    return world.evaluate("first")


def without_time(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in summary.items() if name != "wall_s"}


def test_every_baseline_is_evaluated_on_the_same_tasks(world: World, first: dict[str, Any]) -> None:
    rows = first["baselines"]
    assert list(rows) == BASELINES and first["tasks"] == TASKS and "policy" not in first
    assert rows["expert:solver"]["accuracy"] == 1.0
    assert rows["expert:solver"]["calls"] == {"solver": 1.0}
    assert rows["orchestrator:solver"]["turns"] == 1.0 and rows["orchestrator:solver"]["cost_usd"]
    entries = read(world.folder / "runs" / "first" / FOLDER).to_pylist()
    paid = [entry for entry in entries if entry["kind"] == "model" and not entry["replayed"]]
    assert world.requests() == len(paid) <= 3 * TASKS  # equal requests share one call
    worth = sum(entry["charged_nanousd"] + entry["saved_nanousd"] for entry in entries) / 1e9
    means = sum(row["cost_usd"] for row in rows.values())
    assert worth == pytest.approx(means * TASKS)


@dataclass
class Again:
    """The summaries of two runs on the first one's cassette, without a reachable endpoint."""

    resumed: dict[str, Any]
    replayed: dict[str, Any]


@pytest.fixture(scope="module")
def again(world: World, first: dict[str, Any]) -> Again:
    """Resumes the first run, with half of it lost, and replays it in another run."""
    folder = world.folder / "runs" / "first"
    log, tape = folder / FILE, folder / "cassette.sqlite"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(lines[: TASKS + 2]) + lines[TASKS + 2][:20])  # a crash in a write
    replay = ("cassette.mode=replay_or_fail", f"cassette.path={tape}")
    os.kill(world.server.pid, signal.SIGSTOP)  # a request would wait for ever
    try:
        with ThreadPoolExecutor() as both:
            resumed = both.submit(world.evaluate, "first", "--resume")
            replayed = both.submit(world.evaluate, "replay", *replay)
            return Again(resumed.result(), replayed.result())
    finally:
        os.kill(world.server.pid, signal.SIGCONT)


def test_a_resumed_evaluation_pays_nothing_twice(
    world: World, first: dict[str, Any], again: Again
) -> None:
    assert without_time(again.resumed) == without_time(first)
    entries = read(world.folder / "runs" / "first" / FOLDER).to_pylist()
    assert len(entries) > len(first["baselines"]) * TASKS  # lost episodes ran again
    paid = sum(not entry["replayed"] for entry in entries if entry["kind"] == "model")
    assert paid == world.requests()


def test_a_recorded_run_is_replayed_without_its_endpoints(
    world: World, first: dict[str, Any], again: Again
) -> None:
    assert without_time(again.replayed) == without_time(first)
    entries = read(world.folder / "runs" / "replay" / FOLDER).to_pylist()
    assert all(entry["replayed"] for entry in entries if entry["kind"] == "model")
    assert sum(entry["charged_nanousd"] for entry in entries) == 0
    assert sum(entry["saved_nanousd"] for entry in entries) > 0


def test_no_file_of_a_run_over_private_tasks_holds_their_text(world: World) -> None:
    rows = [json.loads(line) for line in HLE.read_text().splitlines()]
    private = ("tasks.source=hle", f"tasks.heldout_path={HLE}", "tasks.judge=exact")
    summary = world.evaluate("private", *private, "evaluation.tasks=2")
    assert summary["tasks"] == 2
    folder = world.folder / "runs" / "private"
    files = [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
    files.append(str(read(folder / FOLDER).to_pylist()))
    assert any("invented-1" in text for text in files)  # an id may be written
    secrets = {row[key].splitlines()[0] for row in rows for key in ("question", "rationale")}
    secrets |= {row["canary"] for row in rows} | {"seventeen faces", "a lekythos", "I add."}
    assert not [(secret, text) for secret in secrets for text in files if secret in text]


def test_another_evaluation_does_not_go_on_in_its_place(world: World) -> None:
    with pytest.raises(AssertionError, match="evaluation.tasks: the run in .* was made with 6"):
        world.evaluate("first", "--resume", "evaluation.tasks=5")
