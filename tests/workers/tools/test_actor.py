"""The pool with its real actors: executors and the spend actor."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import ray

from orchestra_ray.core.faults import Failure, Fault, FaultKind
from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.records import (
    Caller,
    LedgerEntry,
    Reservation,
    Settlement,
    ToolRequest,
    ToolResult,
)
from orchestra_ray.data.catalogue import Catalogue, Choice, Entry, Kind
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.spend.actor import RemoteSpendActor, SpendActorClient
from orchestra_ray.spend.budget import SpendLimits, most_cost_nanousd
from orchestra_ray.spend.ledger import FOLDER, read
from orchestra_ray.workers.tools.actor import (
    ActorExecutorClient,
    RemoteToolExecutor,
    ToolPool,
    redistribute,
)
from orchestra_ray.workers.tools.runtime.client import ExecutorLost
from orchestra_ray.workers.tools.runtime.executor import Load
from orchestra_ray.workers.tools.runtime.liveness import PROBES
from orchestra_ray.workers.tools.validation import resolve

from .pool_clients import by


def requests(sampler: GroupSampler, count: int, prefix: str = "c") -> list[ToolRequest]:
    group = sampler.group(0, 1)
    option = resolve(group.toolset, "ask", {"model": group.toolset.options[0].alias})
    caller = Caller(1, group.group_id, "e", 0)
    return [ToolRequest(f"{prefix}{i}", caller, option, {}, group.task, i, 0) for i in range(count)]


@pytest.fixture
def spend(ray_cluster: str, tmp_path: Path) -> Any:
    return RemoteSpendActor.options(num_cpus=0).remote("run", str(tmp_path), SpendLimits())


def executors_of(catalogue: Catalogue, spend: Any, count: int) -> list[Any]:
    made = [
        RemoteToolExecutor.options(num_cpus=0.1).remote(catalogue, spend, (i, count))
        for i in range(count)
    ]
    ray.get([executor.peak_mib.remote() for executor in made])
    return made


def test_each_caller_gets_its_own_result_and_the_ledger_has_them_all(
    catalogue: Catalogue, sampler: GroupSampler, spend: Any, tmp_path: Path
) -> None:
    executors = executors_of(catalogue, spend, 2)

    async def main() -> list[ToolResult | Failure]:
        pool = ToolPool(executors, spend, catalogue, "test")
        return await asyncio.gather(*(pool.call(r) for r in requests(sampler, 40)))

    results = [r for r in asyncio.run(main()) if isinstance(r, ToolResult)]
    assert [r.entry.call_id for r in results] == [f"c{i}" for i in range(40)]
    assert ray.get([executor.drain.remote() for executor in executors]) == [0, 0]
    closed = ray.get(spend.close_step.remote(1))
    totals = closed.totals
    assert closed.failures == ()
    written = read(tmp_path / FOLDER)
    charged = sum(r.entry.charged_nanousd for r in results)
    assert sum(written["charged_nanousd"].to_pylist()) == charged > 0
    assert totals["ledger/calls"] == written.num_rows == 40
    assert totals["ledger/charged_usd"] == pytest.approx(charged / 1e9)


def test_an_executor_that_dies_is_replaced_and_loses_no_call(
    catalogue: Catalogue, sampler: GroupSampler, spend: Any
) -> None:
    executors = executors_of(catalogue, spend, 2)

    async def main() -> list[ToolResult | Failure]:
        pool, results = ToolPool(executors, spend, catalogue, "test"), []
        for executor, prefix in zip(executors, "ab", strict=True):
            ray.kill(executor, no_restart=False)
            calls = requests(sampler, 20, prefix)
            results += await asyncio.gather(*(pool.call(call) for call in calls))
        assert await pool.drain() == 0
        return results

    results = [result for result in asyncio.run(main()) if isinstance(result, ToolResult)]
    ray.get([executor.ready.remote() for executor in executors])  # one may be starting again
    assert len(results) == 40 and all(result.error is None for result in results)
    assert ray.get([executor.drain.remote() for executor in executors]) == [0, 0]
    totals = ray.get(spend.close_step.remote(1)).totals
    assert totals["ledger/inconsistent"] == 0
    # A reissued call has a separate entry for its loss: at 0 if its executor had reserved nothing,
    # else at the maximum.
    lost = totals.get("ledger/fault/lost", 0)
    assert totals["ledger/calls"] == 40 + lost
    answered_usd = sum(result.entry.charged_nanousd for result in results) / 1e9
    option = requests(sampler, 1)[0].option
    most_usd = most_cost_nanousd(catalogue.entries[option.identity], option.prices) / 1e9
    charged_usd = totals["ledger/charged_usd"]
    assert answered_usd - 1e-9 <= charged_usd <= answered_usd + lost * most_usd + 1e-9


def test_pool_wide_concurrency_holds_while_executors_come_and_go(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest], spend: Any
) -> None:
    model = replace(make_entry("model", concurrency=3), kind=Kind.MODEL)
    choice = (Choice("by-model", "model", "", 0.0),)
    recipe = replace(make_entry("recipe"), backend="recipe", choices=choice)
    catalogue = Catalogue({"model": model, "recipe": recipe}, "p")

    def asked(call_id: str) -> ToolRequest:
        """Of the model itself and through the recipe, in turn."""
        if int(call_id[1:]) % 2:
            return make_request(model, call_id=call_id)
        return by(make_request(recipe, call_id=call_id), "model")

    def register(_: object) -> None:
        import asyncio
        import time

        from orchestra_ray.data.catalogue import Kind
        from orchestra_ray.workers.tools.base import Reply
        from orchestra_ray.workers.tools.registry import BACKENDS, Backend, NoSettings

        class Timed:
            async def call(self, request: object) -> Reply:
                started_s = time.monotonic()
                await asyncio.sleep(0.02)
                return Reply(f"{started_s} {time.monotonic()}")

        null = Backend(lambda entry: NoSettings(), lambda entry, settings, servers: Timed())
        cast(Any, BACKENDS)[Kind.MODEL]["null"] = null

    def made(quota: Any) -> Any:
        executor = RemoteToolExecutor.options(num_cpus=0).remote(catalogue, spend, quota)
        ray.get(executor.__ray_call__.remote(register))
        return executor

    first, second = made((0, 2)), made((1, 2))

    async def main() -> list[ToolResult | Failure]:
        pool = ToolPool([first, second], spend, catalogue, "test")
        calls = [asyncio.create_task(pool.call(asked(f"c{i}"))) for i in range(150)]
        await calls[9]
        third = made(None)
        await redistribute([first, second, third], deadline_s=60)
        pool.add_executor(third)
        more = [asyncio.create_task(pool.call(asked(f"m{i}"))) for i in range(60)]
        await more[9]
        assert await pool.drain_executor(first, deadline_s=60) == 0
        ray.kill(first)
        await redistribute([second, third], deadline_s=60)
        last = [pool.call(asked(f"l{i}")) for i in range(30)]
        assert len(await second.load.remote()) == 2
        return await asyncio.gather(*calls, *more, *last)

    results = [r for r in asyncio.run(main()) if isinstance(r, ToolResult) and r.error is None]
    assert len(results) == 240
    edges = []
    for result in results:
        started_s, ended_s = map(float, result.text.split())
        edges += [(started_s, 1), (ended_s, -1)]
    running = list(itertools.accumulate(change for _, change in sorted(edges)))
    assert max(running) == 3


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_result_whose_settlement_died_with_its_executor_was_never_returned(
    catalogue: Catalogue, sampler: GroupSampler, spend: Any, tmp_path: Path, idempotent: bool
) -> None:
    stated = {
        name: replace(entry, limits=replace(entry.limits, idempotent=idempotent))
        for name, entry in catalogue.entries.items()
    }
    catalogue = replace(catalogue, entries=stated)
    executors = executors_of(catalogue, spend, 2)

    def post_nothing(actor: Any) -> None:
        actor._spend._send_settlements = lambda: None

    def entered(actor: Any) -> int:
        return len(actor._spend._ended)

    async def main() -> list[ToolResult | Failure]:
        pool, calls = ToolPool(executors, spend, catalogue, "test"), requests(sampler, 20)
        await executors[0].__ray_call__.remote(post_nothing)
        asked = [asyncio.create_task(pool.call(call)) for call in calls]
        async with asyncio.timeout(60):
            while await executors[0].__ray_call__.remote(entered) < 10:
                pass
        had = [call for call in asked if call.done()]
        assert len(had) <= 10  # those of the other executor
        ray.kill(executors[0], no_restart=False)
        results = await asyncio.gather(*asked)
        assert await pool.drain() == 0
        return results

    results = [result for result in asyncio.run(main()) if isinstance(result, ToolResult)]
    assert len(results) == (20 if idempotent else 10)
    ray.get([executor.ready.remote() for executor in executors])

    def held(actor: Any) -> int:
        return len(actor._accounts.budget._held)

    assert ray.get(spend.__ray_call__.remote(held)) == 0
    totals = ray.get(spend.close_step.remote(1)).totals
    assert totals["ledger/fault/lost"] == 10 and totals["ledger/inconsistent"] == 0
    rows = read(tmp_path / FOLDER).to_pylist()
    charged = {row["call"]: row["charged_nanousd"] for row in rows if row["error"] is None}
    assert charged == {r.entry.call_id: r.entry.charged_nanousd for r in results}


def test_a_slow_or_dead_spend_actor_holds_no_result_for_long(
    catalogue: Catalogue, sampler: GroupSampler, spend: Any
) -> None:
    free = {name: replace(entry, prices=Prices()) for name, entry in catalogue.entries.items()}
    (executor,) = executors_of(replace(catalogue, entries=free), spend, 1)
    slow, gone = (
        replace(request, option=replace(request.option, prices=Prices()))
        for request in requests(sampler, 2)
    )
    pid = ray.get(spend.__ray_call__.remote(lambda self: os.getpid()))

    async def main() -> list[ToolResult | Failure]:
        pool, results = ToolPool([executor], spend, catalogue, "test"), []
        os.kill(pid, signal.SIGSTOP)
        try:
            results.append(await pool.call(slow))
        finally:
            os.kill(pid, signal.SIGCONT)
        assert await executor.drain.remote() == 0
        ray.kill(spend)
        results.append(await pool.call(gone))
        assert await executor.drain.remote() == 1
        return results

    assert all(isinstance(result, ToolResult) for result in asyncio.run(main()))


def test_a_restarted_executor_keeps_the_quota_that_it_was_given_last(
    catalogue: Catalogue, sampler: GroupSampler, spend: Any
) -> None:
    limited = {
        name: replace(entry, limits=replace(entry.limits, concurrency=1))
        for name, entry in catalogue.entries.items()
    }
    executor = RemoteToolExecutor.options(num_cpus=0).remote(
        replace(catalogue, entries=limited), spend, None
    )

    async def main() -> None:
        pool = ToolPool([executor], spend, catalogue, "test")
        held, again = requests(sampler, 2)
        waits = asyncio.create_task(pool.call(held))
        async with asyncio.timeout(60):
            while not (load := (await executor.load.remote())[held.option.identity]).held:
                pass
        assert load == Load(running=0, held=1) and not waits.done()
        await executor.set_quota.remote(0, 1)
        assert isinstance(await waits, ToolResult)
        ray.kill(executor, no_restart=False)
        assert isinstance(await asyncio.wait_for(pool.call(again), 60), ToolResult)

    asyncio.run(main())


def test_a_restarted_executor_starts_nothing_before_its_rate_allows_it(
    catalogue: Catalogue, sampler: GroupSampler, spend: Any
) -> None:
    limited = {
        name: replace(entry, limits=replace(entry.limits, calls_per_s=1 / 600))
        for name, entry in catalogue.entries.items()
    }
    (executor,) = executors_of(replace(catalogue, entries=limited), spend, 1)

    async def main() -> None:
        pool = ToolPool([executor], spend, catalogue, "test")
        first, second = requests(sampler, 2)
        assert isinstance(await asyncio.wait_for(pool.call(first), 60), ToolResult)
        ray.kill(executor, no_restart=False)
        waits = asyncio.create_task(pool.call(second))
        async with asyncio.timeout(60):
            while not (load := (await executor.load.remote())[first.option.identity]).held:
                assert not load.running and not waits.done()
        ray.kill(executor)

    asyncio.run(main())


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> float:
    """Clients that give up early; the executors have their own patience. All probes' seconds."""
    monkeypatch.setattr("orchestra_ray.workers.tools.actor.POLL_S", 1.0)
    monkeypatch.setattr("orchestra_ray.workers.tools.actor.POLL_MARGIN_S", 1.0)
    monkeypatch.setattr("orchestra_ray.workers.tools.runtime.liveness.PROBE_S", 0.5)
    return 0.5 * PROBES


def hang(_: object) -> None:
    import time

    time.sleep(3600)


def test_an_executor_that_hangs_is_killed_once_though_several_clients_see_it(
    catalogue: Catalogue, sampler: GroupSampler, spend: Any, impatient: float
) -> None:
    (executor,) = executors_of(catalogue, spend, 1)

    async def main() -> None:
        pools = [ToolPool([executor], spend, catalogue, f"client {i}") for i in range(3)]

        async def ask(prefix: str) -> None:
            calls = (
                pool.call(requests(sampler, 1, f"{prefix}{i}")[0]) for i, pool in enumerate(pools)
            )
            results = await asyncio.wait_for(asyncio.gather(*calls), 90)
            assert all(isinstance(result, ToolResult) for result in results), results

        await ask("before")
        hung = await executor.ready.remote()
        executor.__ray_call__.remote(hang)
        await ask("after")
        incarnations = {queue.client._incarnation for pool in pools for queue in pool._pool._queues}
        assert incarnations == {await executor.ready.remote()} and hung not in incarnations

    asyncio.run(main())


def test_a_client_that_stands_still_ends_no_executor_that_lives(
    catalogue: Catalogue, sampler: GroupSampler, spend: Any, impatient: float
) -> None:
    (executor,) = executors_of(catalogue, spend, 1)

    async def main() -> None:
        client = ActorExecutorClient(executor, "test", spend)
        while not await client.exchange(requests(sampler, 1)):
            pass
        incarnation = await executor.ready.remote()
        with pytest.raises(ExecutorLost, match="TimeoutError"):
            await client.exchange([])  # nothing ends, and the executor is more patient
        asyncio.get_running_loop().call_later(0.0, time.sleep, 2 * impatient)
        await client.revived()
        assert await executor.ready.remote() == incarnation

    asyncio.run(main())


def settlement(number: int) -> Settlement:
    entry = LedgerEntry(
        call_id=f"e/{number}/policy",
        caller=Caller(1, "g", "e", number),
        identity="policy",
        alias="policy",
        kind="policy",
        price_sheet="prices",
        usage=Usage(),
        charged_nanousd=7,
        service_s=0.0,
    )
    return Settlement(entry.call_id, entry)


def test_settlements_reach_a_stopped_spend_actor_later_and_are_entered_once(
    spend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra_ray.spend.actor.SPEND_DEADLINE_S", 0.2)
    monkeypatch.setattr("orchestra_ray.spend.actor.SETTLE_TRIES", 200)
    pid = ray.get(spend.__ray_call__.remote(lambda self: os.getpid()))

    async def main() -> int:
        client = SpendActorClient(spend)
        os.kill(pid, signal.SIGSTOP)
        try:
            for number in range(3):
                entered = client.enter(settlement(number))
            await asyncio.sleep(0.5)
            assert not entered.is_set()
        finally:
            os.kill(pid, signal.SIGCONT)
        await entered.wait()
        return await client.drain()

    assert asyncio.run(main()) == 0
    totals = ray.get(spend.close_step.remote(1)).totals
    assert (totals["ledger/calls"], totals["ledger/charged_usd"]) == (3, 21e-9)


def test_without_a_spend_actor_calls_are_refused_and_lost_settlements_counted(
    spend: Any, sampler: GroupSampler
) -> None:
    ray.kill(spend)

    async def main() -> int:
        client = SpendActorClient(spend)
        with pytest.raises(Fault, match="the spend actor does not answer") as caught:
            await client.reserve(Reservation("c#0.1", Caller(1, "g", "e", 0), 5))
        assert caught.value.kind is FaultKind.UNAVAILABLE
        client.enter(settlement(0))
        client.lost(requests(sampler, 1)[0])
        return await client.drain()

    assert asyncio.run(main()) == 2


def test_the_runs_limit_holds_to_the_nano_dollar_while_executors_are_killed(
    catalogue: Catalogue, sampler: GroupSampler, ray_cluster: str, tmp_path: Path
) -> None:
    calls = requests(sampler, 60)
    most = most_cost_nanousd(catalogue.entries[calls[0].option.identity], calls[0].option.prices)
    limit = 12 * most  # far less than all of them can cost
    limits = SpendLimits(run_nanousd=limit)
    spend = RemoteSpendActor.options(num_cpus=0).remote("run", str(tmp_path), limits)
    executors = executors_of(catalogue, spend, 2)

    async def main() -> list[ToolResult | Failure]:
        pools = [ToolPool(executors, spend, catalogue, f"client {n}") for n in range(3)]
        asked = [asyncio.create_task(pools[n % 3].call(request)) for n, request in enumerate(calls)]
        await asked[0]
        pid = await executors[1].__ray_call__.remote(lambda self: os.getpid())
        os.kill(pid, signal.SIGKILL)  # with calls that are reserved and not settled
        results = await asyncio.gather(*asked)
        for pool in pools:
            assert await pool.drain() == 0
        return results

    results = asyncio.run(main())
    refused = [r for r in results if isinstance(r, ToolResult) and r.error == "budget"]
    assert refused
    ray.get([executor.drain.remote() for executor in executors])
    committed = ray.get(
        spend.__ray_call__.remote(lambda self: self._accounts.budget.committed_nanousd)
    )
    assert ray.get(spend.close_step.remote(1)).totals["ledger/inconsistent"] == 0
    rows = read(tmp_path / FOLDER).to_pylist()
    charged = sum(row["charged_nanousd"] for row in rows)
    assert 0 < charged == committed <= limit


def test_calls_and_results_that_cannot_be_sent_fail_alone_and_at_once(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest], spend: Any
) -> None:
    catalogue = Catalogue({"tool": make_entry()}, "p")

    def register(_: object) -> None:
        from dataclasses import replace

        from orchestra_ray.data.catalogue import Kind
        from orchestra_ray.workers.tools.base import Reply
        from orchestra_ray.workers.tools.registry import BACKENDS, Backend, NoSettings
        from orchestra_ray.workers.tools.runtime.executor import Executor

        class Unreadable:
            def __reduce__(self):
                return int, ("no number",)

        class Replying:
            async def call(self, request: object) -> Reply:
                return Reply("a reply")

            async def close(self) -> None: ...

        execute = Executor.execute

        async def spoil(self, request, waited_s=0.0):
            result = await execute(self, request, waited_s)
            return replace(result, error=Unreadable()) if "odd" in request.arguments else result

        Executor.execute = spoil
        kind = Backend(lambda entry: NoSettings(), lambda entry, settings, context: Replying())
        BACKENDS[Kind.TOOL]["null"] = kind  # type: ignore[index]

    executor: Any = RemoteToolExecutor.options(num_cpus=0.1).remote(catalogue, spend, (0, 1))
    ray.get(executor.__ray_call__.remote(register))
    deep: Any = []
    for _ in range(3000):
        deep = [deep]
    arguments = [{}, {"x": deep}, {"odd": True}, {}]

    async def main() -> tuple[list[ToolResult | Failure], int]:
        pool = ToolPool([executor], spend, catalogue, "test")
        calls = [
            pool.call(make_request(catalogue.entries["tool"], given, call_id=f"{number}"))
            for number, given in enumerate(arguments)
        ]
        async with asyncio.timeout(catalogue.entries["tool"].limits.deadline_s / 2):
            return await asyncio.gather(*calls), await pool.drain()

    results, unsettled = asyncio.run(main())
    texts = [r.text if isinstance(r, ToolResult) else r.message for r in results]
    assert texts[0] == texts[3] == "a reply" and unsettled == 0
    assert "the call cannot be sent" in texts[1] and "the result cannot be sent" in texts[2]
    assert ray.get(executor.drain.remote()) == 0
    totals = ray.get(spend.close_step.remote(1)).totals
    assert (totals["ledger/calls"], totals["ledger/fault/lost"]) == (4, 1)
