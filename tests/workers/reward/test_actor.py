"""The scorer as a Ray actor: plain graders, the LLM judge with its spend, and failures."""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from orchestra_ray.config.schema import JudgeConfig
from orchestra_ray.core.faults import FailureKind
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import (
    EpisodeSpec,
    GroupSpec,
    Preference,
    Task,
    ToolsetSample,
    Trajectory,
)
from orchestra_ray.core.states import Stop
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind, Limits
from orchestra_ray.spend.actor import RemoteSpendActor
from orchestra_ray.spend.budget import SpendLimits
from orchestra_ray.workers.reward.actor import RemoteRewardScorer
from orchestra_ray.workers.reward.judges.registry import GraderInputs
from orchestra_ray.workers.reward.settings import RewardSettings

pytestmark = pytest.mark.cpu
PAPER = RewardSettings()
GATHER = 8  # groups that wait for verdicts at once


class _Handler(BaseHTTPRequestHandler):
    """Replies once the expected number of concurrent calls has arrived; sequential calls block."""

    barrier = threading.Barrier(GATHER)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        right = "]\nyes" in body["messages"][-1]["content"]
        self.barrier.wait(60)
        message = {"content": f"<correct>{right}</correct>"}
        reply = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {}}
        text = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        server.shutdown()
        thread.join()


def group(name: str, judge: str, *answers: str | None) -> tuple[GroupSpec, list[Any]]:
    task = Task(f"qa/{name}", "qa", f"Question {name}?", {"answer": "42", "judge": judge})
    ids = [f"{name}/{i}" for i in range(len(answers))]
    preference = Preference("p", "Be right.", 1.0, 0.0, 0.0)
    episodes = tuple(EpisodeSpec(one, 0) for one in ids)
    none = np.zeros(0, dtype=np.int32)
    refs = [
        ray.put(Trajectory(i, none, none > 0, none * 1.0, none, (), (), answer, Stop.ANSWERED))
        for i, answer in zip(ids, answers, strict=True)
    ]
    return GroupSpec(name, 1, task, ToolsetSample(0, ()), preference, episodes), refs


def test_groups_are_judged_side_by_side_and_what_it_costs_is_recorded(
    ray_cluster: str, endpoint: str, tmp_path: Path
) -> None:
    entry = Entry(
        name="grader",
        kind=Kind.MODEL,
        description="",
        backend="endpoint",
        prices=Prices(call_nanousd=1_000),
        latency_s=1.0,
        limits=Limits(retries=0),
        settings={"base_urls": [endpoint], "model": "m"},
    )
    judging = GraderInputs(
        JudgeConfig("grader"), Catalogue({"grader": entry}, ""), deadline_s=100.0
    )
    spend = RemoteSpendActor.options(num_cpus=0).remote("run", str(tmp_path), SpendLimits())
    scorer = RemoteRewardScorer.options(num_cpus=0.1).remote(judging, spend)
    asked = [group(f"g{n}", "paper", "yes" if n % 2 else "no", "42") for n in range(GATHER)]

    async def score_all() -> Any:
        async with asyncio.timeout(120):
            scores = await asyncio.gather(
                *(scorer.score.remote(PAPER, g, *refs) for g, refs in asked)
            )
            return scores, await scorer.drain.remote(), await spend.close_step.remote(1)

    scores, unsettled, closed = asyncio.run(score_all())
    assert all(score.failure is None for score in scores)
    correct = [[episode.correct for episode in score.episodes] for score in scores]
    assert correct == [[n % 2 == 1, True] for n in range(GATHER)]
    assert unsettled == 0 and not closed.failures
    assert closed.totals["ledger/charged_usd/judge"] == GATHER * 1e-6
    for actor in (scorer, spend):
        ray.kill(actor)


def test_plain_judges_need_nothing_and_failures_are_values(ray_cluster: str) -> None:
    scorer = RemoteRewardScorer.options(num_cpus=0.1).remote()
    (right, refs), (none, no_refs) = group("a", "number", "$42", "41"), group("b", "paper", "x")
    score, failed = ray.get(
        [scorer.score.remote(PAPER, right, *refs), scorer.score.remote(PAPER, none, *no_refs)],
        timeout=120,
    )
    assert [episode.correct for episode in score.episodes] == [True, False]
    assert score.episodes[0].reward > score.episodes[1].reward
    assert failed.failure is not None and failed.failure.kind is FailureKind.REWARD
    assert failed.failure.where == "judge paper" and not failed.episodes
    assert ray.get(scorer.drain.remote(), timeout=60) == 0
    ray.kill(scorer)


def test_answers_that_cannot_be_scored_are_counted_in_the_score(ray_cluster: str) -> None:
    scorer = RemoteRewardScorer.options(num_cpus=0.1).remote()
    spec, _ = group("d", "exact")
    payload = {"question": "?", "answer": "2 × 3", "metadata": {}}
    spec = replace(spec, task=Task("f/0", "prime_factorization", "?", payload))
    _, refs = group("d", "exact", "2 × 3", "1/0", None, "five", "5")
    score = ray.get(scorer.score.remote(PAPER, spec, *refs), timeout=120)
    assert [episode.correct for episode in score.episodes] == [True] + [False] * 4
    assert score.failure is None and score.unscorable == 2
    ray.kill(scorer)


def test_expressions_are_compared_in_an_actor(ray_cluster: str) -> None:
    pytest.importorskip("math_verify")
    scorer = RemoteRewardScorer.options(num_cpus=0.1).remote()
    spec, refs = group("c", "math", "$\\frac{84}{2}$", "43", "9^{9^{9^9}}")
    score = ray.get(scorer.score.remote(PAPER, spec, *refs), timeout=240)
    assert [episode.correct for episode in score.episodes] == [True, False, False]
    ray.kill(scorer)
