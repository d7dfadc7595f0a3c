"""Whole runs through the command line, each in a process of its own with a local Ray cluster."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from orchestra_ray.config import load
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.states import Ended
from orchestra_ray.evaluation.report.training import ENGINE, LEARNING
from orchestra_ray.spend.ledger import FOLDER, read
from orchestra_ray.workers.rollout.engine import Engine
from orchestra_ray.workers.rollout.episode import FAULTY
from orchestra_ray.workers.rollout.policies import Completion

STEPS, TASKS = 3, 12
CALLS = 20  # limit of a run's calls: fewer than its first step makes
SMALL = [
    "model.tiny.warmup_steps=60",
    "model.tiny.warmup_batch=16",
    f"training.steps={STEPS}",
    f"evaluation.tasks={TASKS}",
    "evaluation.bootstrap=100",
    "tracking.wandb=offline",
]

# The engine's process dies after the first step that publishes weights.
KILLS_ENGINE = """
import sys
import psutil
from orchestra_ray.driver.loop import TrainingLoop
honest = TrainingLoop._publish
async def deadly(self):
    published = await honest(self)
    below = psutil.Process().children(recursive=True)
    engines = [process for process in below if "EngineCore" in " ".join(process.cmdline())]
    assert engines
    for process in engines:
        process.kill()
    return published
TrainingLoop._publish = deadly
from orchestra_ray.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def orchestra(program: list[str], cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *program, *arguments, "--config", "configs/quickstart.yaml"]
    command += [*SMALL, f"model.cache_dir={cache}"]
    # A cluster of its own: the session's address must not leak into the run.
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    return subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The folder of a run of three steps."""
    runs = tmp_path_factory.mktemp("runs")
    module = ["-m", "orchestra_ray.cli.main"]
    done = orchestra(module, cache, "train", "name=small", f"runs_dir={runs}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "strongest" in done.stdout
    assert re.search(r"^trained \d+ of 192 episodes \(", done.stdout, re.M)
    assert f"train {STEPS}/{STEPS} 8 groups: " in done.stderr
    return runs / "small"


@pytest.fixture(scope="module")
def failing(run: Path, cache: Path) -> dict[str, subprocess.CompletedProcess[str]]:
    """Two runs that end early, in parallel: each mostly waits."""
    where, module = f"runs_dir={run.parent}", ["-m", "orchestra_ray.cli.main"]
    limit = f"spend.run_calls={CALLS}"
    with ThreadPoolExecutor() as both:
        poor = both.submit(orchestra, module, cache, "train", "name=poor", where, limit)
        dead = both.submit(orchestra, ["-c", KILLS_ENGINE], cache, "train", "name=dead", where)
        return {"poor": poor.result(), "dead": dead.result()}


def steps_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.timeout(300)
def test_every_step_is_written_and_its_accounting_balances(run: Path) -> None:
    steps = steps_of(run)
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    for step in steps:
        ended = sum(step[f"accounting/{state.value}"] for state in Ended)
        assert step["accounting/dispatched"] == ended + step["accounting/in_flight"]
        failed = [k for k in step if k.startswith("accounting/failed") and step[k]]
        assert not failed, (run / "events.jsonl").read_text()


def test_what_was_sampled_is_what_was_trained(run: Path) -> None:
    """The learner gets the engine's own tokens: on others its log-probabilities would differ."""
    trained = [step for step in steps_of(run) if step["trained_episodes"]]
    assert trained
    for step in trained:
        assert step["logprob_gap"] < 1e-3
        assert step["ratio"] == pytest.approx(1.0, abs=1e-5)
    assert trained[-1]["accounting/trained"] == sum(step["trained_episodes"] for step in trained)


def test_the_summary_has_every_policy_on_the_same_tasks(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert set(summary) == {"before", "after", "baselines", "tasks", "tradeoffs", "wall_s"}
    assert set(summary["baselines"]) == {"random", "cheapest", "strongest", "oracle"}
    assert summary["tasks"] == TASKS and summary["wall_s"] > 0
    episodes = map(json.loads, (run / "evaluation.jsonl").read_text().splitlines())
    called = {episode["policy"] for episode in episodes if episode["calls"]}
    assert called >= set(summary["baselines"])  # the barely trained policy may make no call
    rows = {name: summary[name] for name in ("before", "after")} | summary["baselines"]
    for name, row in rows.items():
        calls = {"calls", "calls_ci95"} if name in called else set()
        assert set(row) == calls | {
            "accuracy",
            "accuracy_ci95",
            "cost_usd",
            "cost_usd_ci95",
            "latency_s",
            "latency_s_ci95",
            "latency_p50_s",
            "latency_p50_s_ci95",
            "latency_p95_s",
            "latency_p95_s_ci95",
            "reward",
            "reward_ci95",
            "turns",
            "preference_score",
            "preference_score_ci95",
            "by_family",
        }
    dearest = summary["baselines"]["strongest"]["cost_usd"]
    assert dearest > summary["baselines"]["cheapest"]["cost_usd"] > 0
    report = (run / "report.html").read_text()
    assert "<svg" in report
    charts = {panel.title for panel in (*LEARNING, *ENGINE)}
    assert {title for title in charts if f"<h3>{title}" not in report} == set()
    assert (run / "config.yaml").exists()


def test_the_ledger_holds_every_call_to_the_end_of_the_run(run: Path) -> None:
    rows = read(run / FOLDER).to_pylist()
    assert {row["step"] for row in rows} == set(range(STEPS + 1))
    calls = Counter((row["call"], row["error"] == "lost") for row in rows)
    assert set(calls.values()) == {1}
    charged = [row["charged_nanousd"] for row in rows if 0 < row["step"]]
    before = [row for row in rows if row["group"].startswith("heldout/before/")]
    total = sum(charged) + sum(row["charged_nanousd"] for row in before)
    assert steps_of(run)[-1]["ledger/charged_usd"] == pytest.approx(total / 1e9)
    for name, row in json.loads((run / "summary.json").read_text())["baselines"].items():
        theirs = [r for r in rows if r["group"].startswith(f"heldout/{name}/")]
        assert len([r for r in theirs if r["kind"] == "model"]) == TASKS
        assert sum(r["charged_nanousd"] for r in theirs) / 1e9 / TASKS == pytest.approx(
            row["cost_usd"]
        )


def test_what_was_charged_stands_in_the_log_of_wandb(run: Path) -> None:
    (log,) = run.glob("wandb/offline-run-*/run-*.wandb")
    recorded = log.read_bytes()
    assert b"ledger/charged_usd" in recorded
    for step in steps_of(run):
        assert repr(step["ledger/charged_usd"]).encode() in recorded


@pytest.mark.timeout(300)
def test_the_limit_of_the_run_ends_it_in_order_with_a_checkpoint(
    run: Path, failing: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    done = failing["poor"]
    assert done.returncode == 0, done.stderr[-3000:]
    assert "raise spend.run_usd or spend.run_calls" in done.stderr
    poor = run.parent / "poor"
    last = steps_of(poor)[-1]
    assert last["step"] < STEPS and last["ledger/run_refused"] == 1
    assert (poor / "checkpoints" / f"step_{last['step']}").is_dir()
    made = [row for row in read(poor / FOLDER).to_pylist() if row["kind"] != "policy"]
    assert any(row["error"] == "budget" for row in made)
    called = [row for row in made if row["error"] != "budget" and row["identity"] != FAULTY]
    assert 0 < len(called) <= CALLS


@pytest.mark.timeout(300)
def test_vllm_and_transformers_load_the_checkpoint(run: Path) -> None:
    folder = str(run / "checkpoints" / f"step_{STEPS}" / "policy")
    prompt = [5, 6, 7, 8, 9]

    async def said() -> Completion | Failure:
        engine = await Engine.start(load(["configs/quickstart.yaml"]), folder, seed=0)
        try:
            return await engine.generate("r", prompt, 8, 0.0, 0, [], 120)
        finally:
            await engine.stop()

    ours = asyncio.run(said())
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([prompt])
    theirs = model.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=None)[0, 5:]
    assert isinstance(ours, Completion) and list(ours.token_ids) == theirs.tolist()


@pytest.mark.timeout(300)
def test_a_run_without_an_engine_ends_at_once_and_says_why(
    run: Path, failing: dict[str, subprocess.CompletedProcess[str]]
) -> None:
    done = failing["dead"]
    assert done.returncode == 1
    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith("error: RunFailed: every rollout worker is lost")
    events = [json.loads(line) for line in (run.parent / "dead/events.jsonl").open()]
    kinds = [event["kind"] for event in events]
    assert kinds.count("worker lost") == 1 and kinds[-1] == "stopped"
    accounting = events[kinds.index("accounting")]
    assert accounting["accounting/in_flight"] == 0
    lost = events[kinds.index("worker lost")]
    assert Path(lost["log"]).is_file() and lost["log"] in last_line
    assert lost["last_lines"] and events[-1]["log"] == lost["log"]
    assert "--debug" not in last_line
    # One more step if it trained something: a step without training publishes nothing.
    ended = len(steps_of(run.parent / "dead"))
    assert accounting["accounting/dispatched"] == TASKS + (ended + 1) * 64


@pytest.mark.timeout(300)
def test_sigterm_ends_a_run_in_order_and_leaves_its_name_free(run: Path, cache: Path) -> None:
    command = [sys.executable, "-m", "orchestra_ray.cli.main", "train", "name=ended"]
    command += ["--config", "configs/quickstart.yaml", *SMALL]
    command += [f"model.cache_dir={cache}", f"runs_dir={run.parent}"]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    process = subprocess.Popen(  # as a shell starts one in the background
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stderr is not None
    written = []
    for line in process.stderr:
        written.append(line)
        if "held-out tasks: before" in line:
            process.terminate()
            break
    written += process.stderr.readlines()
    assert process.wait(timeout=120) == 143
    text = "".join(written)
    assert "SIGTERM" not in text and "error: interrupted\n" in written, text[-3000:]
    assert not (run.parent / "ended").exists()
    left = run.parent / "ended.failed-1"
    kinds = [json.loads(line)["kind"] for line in (left / "events.jsonl").open()]
    assert kinds[-1] == "stopped" and "accounting" in kinds
    assert (left / "inputs" / "simulated.yaml").is_file()
