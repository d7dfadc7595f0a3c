"""A run's calls through the real pool, recorded against a real server and replayed without it."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import ray

from orchestra_ray.config.enums import CassetteMode
from orchestra_ray.config.schema import CassetteConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Failure, FailureKind, FaultKind
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import ToolRequest, ToolResult
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind, Limits
from orchestra_ray.spend.actor import RemoteSpendActor
from orchestra_ray.spend.budget import SpendLimits
from orchestra_ray.workers.tools.actor import RemoteToolExecutor, ToolPool
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.replay.cassette import Cassette
from orchestra_ray.workers.tools.replay.store import Recorded
from orchestra_ray.workers.tools.runtime.executor import Executor

TOKENS = Prices(input_nanousd_per_mtok=1_000_000_000, output_nanousd_per_mtok=2_000_000_000)
CALLS = 6  # of each model
TOLD = {"prompt_tokens": 12, "completion_tokens": 3}
ANSWER = {"choices": [{"message": {"content": "said {n}"}, "finish_reason": "stop"}], "usage": TOLD}
JSON = {"Content-Type": "application/json"}
SCRIPTS: dict[str, tuple[dict[str, Any], FaultKind | None]] = {
    "well": ({"status": 200, "headers": JSON, "parts": [json.dumps(ANSWER)]}, None),
    "down": ({"status": 503, "parts": ["no {n}"]}, FaultKind.SERVER_ERROR),
    "silent": ({"end": "hang"}, FaultKind.TIMEOUT),
    "broken": (
        {"status": 200, "headers": JSON, "parts": ['{"choices": ["{n}']},
        FaultKind.BAD_REPLY,
    ),
    "refusing": ({"status": 401, "headers": JSON, "parts": ['"no"']}, FaultKind.DENIED),
}


def models(url: str) -> Catalogue:
    limits = Limits(retries=0, deadline_s=1.0, context_tokens=4096, max_output_tokens=64)
    entries = {
        name: Entry(
            name,
            Kind.MODEL,
            "",
            "endpoint",
            TOKENS,
            1.0,
            replace(limits, retries=1) if name == "down" else limits,
            settings={"base_urls": [url], "model": name, "extra_body": {"script": script}},
        )
        for name, (script, _) in SCRIPTS.items()
    }
    return Catalogue(entries, "prices")


def dearer(catalogue: Catalogue) -> Catalogue:
    doubled = Prices(**{name: 2 * price for name, price in asdict(TOKENS).items()})
    entries = {n: replace(entry, prices=doubled) for n, entry in catalogue.entries.items()}
    return replace(catalogue, entries=entries)


@pytest.fixture
def play(
    ray_cluster: str, make_request: Callable[..., ToolRequest], tmp_path: Path
) -> Callable[[Catalogue, CassetteMode], tuple[list[ToolResult | Failure], dict[str, float]]]:
    """Returns the results of the run's calls, and its spend totals, with two executors."""

    def play(
        catalogue: Catalogue, mode: CassetteMode
    ) -> tuple[list[ToolResult | Failure], dict[str, float]]:
        spend: Any = RemoteSpendActor.options(num_cpus=0).remote("run", None, SpendLimits())
        cassette = CassetteConfig(mode, str(tmp_path / "tape"))
        executors: list[Any] = [
            RemoteToolExecutor.options(num_cpus=0.1).remote(
                catalogue, spend, (i, 2), False, cassette
            )
            for i in range(2)
        ]
        ray.get([executor.ready.remote() for executor in executors])  # deadlines are of calls alone
        requests = [
            make_request(entry, call_id=f"{name}{seed}", seed=seed)
            for name, entry in catalogue.entries.items()
            for seed in range(CALLS)
        ]

        async def main() -> Sequence[ToolResult | Failure]:
            pool = ToolPool(executors, spend, catalogue, "test")
            return await asyncio.gather(*(pool.call(request) for request in requests))

        try:
            results = list(asyncio.run(main()))
            assert ray.get([executor.drain.remote() for executor in executors]) == [0, 0]
            closed = ray.get(spend.close_step.remote(1))
            assert closed.failures == ()
            return results, dict(closed.totals)
        finally:
            for actor in (*executors, spend):
                ray.kill(actor)

    return play


def observations(results: Sequence[ToolResult | Failure]) -> list[tuple[object, ...]]:
    return [
        (r.text, r.error, r.entry.usage, r.entry.service_s) if isinstance(r, ToolResult) else (r,)
        for r in results
    ]


def asked(server: Any) -> Counter[str]:
    """How often each model was asked since the last time."""
    return Counter(body["model"] for body in server.seen()["bodies"])


@pytest.mark.cpu
def test_a_replayed_run_makes_no_call_and_has_the_same_results(bad_server: Any, play: Any) -> None:
    catalogue = models(bad_server.url)
    live, paid = play(catalogue, CassetteMode.RECORD)
    assert asked(bad_server)["well"] == CALLS
    again, _ = play(catalogue, CassetteMode.RECORD)
    wanted = {kind and kind.value for _, kind in SCRIPTS.values()}
    assert {result.error for result in live} >= wanted  # a circuit may open, too
    assert len({result.text for result in live if result.error is None}) == CALLS
    assert [result.text for result in again] == [result.text for result in live]
    assert asked(bad_server).keys() == SCRIPTS.keys() - {"well"}  # failures of the moment only

    bad_server.stop()
    replayed, free = play(catalogue, CassetteMode.REPLAY_OR_FAIL)
    assert observations(replayed) == observations(live)
    assert all(result.entry.replayed for result in replayed)
    assert paid["ledger/charged_usd"] > 0 and free["ledger/charged_usd"] == 0

    doubled, free = play(dearer(catalogue), CassetteMode.REPLAY)
    assert observations(doubled) == observations(live) and free["ledger/charged_usd"] == 0
    for result, once in zip(doubled, replayed, strict=True):
        assert result.entry.saved_nanousd == 2 * once.entry.saved_nanousd
    for before, after in zip(live, replayed, strict=True):
        if before.entry.identity != "down":  # of whose attempts the last alone is recorded
            assert after.entry.saved_nanousd == before.entry.charged_nanousd


@pytest.mark.cpu
def test_a_replay_needs_no_key_and_what_is_missing_is_a_fault_or_ends_the_episode(
    bad_server: Any, play: Any
) -> None:
    well = models(bad_server.url).entries["well"]
    keyed = replace(well, settings={**well.settings, "api_key_env": "NO_SUCH_KEY"})
    live, _ = play(Catalogue({"well": well}, "p"), CassetteMode.RECORD)
    both = Catalogue({"well": keyed, "new": replace(keyed, name="new")}, "p")
    lenient, totals = play(both, CassetteMode.REPLAY)
    assert observations(lenient[:CALLS]) == observations(live)
    assert {result.text for result in lenient[CALLS:]} == {"error: this call was not recorded"}
    assert totals["ledger/fault/not_recorded"] == CALLS
    strict, totals = play(both, CassetteMode.REPLAY_OR_FAIL)
    assert observations(strict[:CALLS]) == observations(live)
    assert {(failure.kind, failure.where) for failure in strict[CALLS:]} == {
        (FailureKind.TOOL, "cassette")
    }
    assert totals["ledger/fault/not_recorded"] == CALLS


@pytest.mark.cpu
def test_a_replay_of_nothing_is_told_when_the_executor_starts(
    ray_cluster: str, tmp_path: Path
) -> None:
    cassette = CassetteConfig(CassetteMode.REPLAY, str(tmp_path / "tape"))
    executor: Any = RemoteToolExecutor.options(num_cpus=0.1).remote(
        Catalogue({}, "p"), None, (0, 1), False, cassette
    )
    with pytest.raises(ConfigError, match="no such file; record it first"):
        ray.get(executor.peak_mib.remote())
    ray.kill(executor)


def test_the_deadline_covers_a_disk_that_does_not_answer(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("orchestra_ray.workers.tools.runtime.executor.CASSETTE_S", 0.05)
    entry, spend = make_entry(deadline_s=0.05), local_spend()

    class Slow(Cassette):
        async def store(self, key: Any, recorded: Recorded) -> Recorded:
            await asyncio.Event().wait()
            raise AssertionError("unreachable")

    class Says:
        async def call(self, request: ToolRequest) -> Reply:
            return Reply("ok")

        async def close(self) -> None:
            pass

    async def main() -> ToolResult:
        tape = Slow(tmp_path / "tape", CassetteMode.RECORD)
        executor = Executor(Catalogue({entry.name: entry}, "p"), {entry.name: Says()}, spend, tape)
        return await executor.execute(make_request(entry))

    result = asyncio.run(main())
    assert result.text == "error: the cassette does not answer"
    assert spend.budget.committed_nanousd == result.entry.charged_nanousd == 7
