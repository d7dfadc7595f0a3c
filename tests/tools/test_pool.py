"""The pool: its batching and recovery over lines in this process, then with its real actors."""

import asyncio
import itertools
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import ray

from orchestra_ray.catalogue import Catalogue, Choice, Entry, Kind, Limits
from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.records import Asker, LedgerEntry, ToolRequest, ToolResult
from orchestra_ray.core.states import Failure, FailureKind
from orchestra_ray.tasks.sampler import GroupSampler
from orchestra_ray.tools.actor import Books, BooksLine, ToolExecutor, ToolPool, reshare
from orchestra_ray.tools.attempts import most_cost_nanousd
from orchestra_ray.tools.books import Posting, call_of
from orchestra_ray.tools.checks import resolve
from orchestra_ray.tools.executor import Load
from orchestra_ray.tools.guard import Reservation, SpendLimits
from orchestra_ray.tools.ledger import FOLDER, read
from orchestra_ray.tools.outbox import Outbox
from orchestra_ray.tools.pool import LineLost, Pool, Results
from orchestra_ray.tools.queues import ExecutorState, ToolQueue
from orchestra_ray.tools.tool import Fault, FaultKind

SEVEN_A_CALL = Prices(call_nanousd=7)
SECONDS = {"fast": 0.0, "slow": 0.5}


class LocalLine:
    """Runs calls for as long as their entry's name says; loses everything when it is `dead`."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.open, self.most_open = 0, 0
        self.dead, self.again = asyncio.Event(), asyncio.Event()
        self.gone = False
        self._outbox: Outbox[tuple[str, ToolResult | Failure]] = Outbox()
        self._tasks: list[asyncio.Task[None]] = []

    async def exchange(self, requests: Sequence[ToolRequest]) -> Results:
        if self.dead.is_set():
            raise LineLost("it is dead")
        if requests:
            self.batches.append(len(requests))
        self._tasks += [asyncio.create_task(self._run(request)) for request in requests]
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        ended = asyncio.ensure_future(self._outbox.take(10))
        death = asyncio.ensure_future(self.dead.wait())
        await asyncio.wait({ended, death}, return_when=asyncio.FIRST_COMPLETED)
        self.open -= 1
        if self.dead.is_set():
            raise LineLost("it died")
        death.cancel()
        return ended.result()

    async def _run(self, request: ToolRequest) -> None:
        await asyncio.sleep(SECONDS[request.offer.identity.split("-")[0]])
        self._outbox.put((call_of(request), cast(ToolResult, request)))

    async def revived(self) -> None:
        await self.again.wait()
        if self.gone:
            raise LineLost("it stays dead")
        self.dead.clear()

    def revive(self) -> None:
        self.again.set()


def by(request: ToolRequest, model: str) -> ToolRequest:
    """A recipe's call, done by a model."""
    choice = replace(request.offer, alias=model, identity=model, kind="model")
    return replace(request, offer=replace(request.offer, choices=(choice,)))


def pool_over(lines: Sequence[LocalLine], catalogue: Catalogue, losses: "Losses") -> Pool:
    return Pool({f"{number}": line for number, line in enumerate(lines)}, catalogue, losses)


class Losses:
    def __init__(self) -> None:
        self.requests: list[ToolRequest] = []
        self.told = asyncio.Event()

    def lost(self, request: ToolRequest) -> None:
        self.requests.append(request)
        self.told.set()


@pytest.fixture
def entries(make_entry: Callable[..., Entry]) -> dict[str, Entry]:
    made = [make_entry("fast"), make_entry("slow"), make_entry("slow-once", idempotent=False)]
    made.append(make_entry("fast-one", concurrency=1))
    return {entry.name: entry for entry in made}


def test_calls_of_one_moment_travel_together_and_none_waits_for_a_slower_one(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        line = LocalLine()
        pool = pool_over([line], Catalogue(entries, "p"), Losses())
        slow = asyncio.create_task(pool.call(make_request(entries["slow"], call_id="s")))
        fast = [
            asyncio.create_task(pool.call(make_request(entries["fast"], call_id=f"{i}")))
            for i in range(20)
        ]
        done = await asyncio.gather(*fast)
        assert not slow.done() and line.batches == [21]
        assert [cast(Any, result).call_id for result in done] == [f"{i}" for i in range(20)]
        assert cast(Any, await slow).call_id == "s" and pool.in_flight == 0

    asyncio.run(main())


def test_a_limited_tool_runs_only_where_it_has_a_share(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        lines = [LocalLine(), LocalLine(), LocalLine()]
        pool = pool_over(lines, Catalogue(entries, "p"), Losses())
        calls = [make_request(entries["fast-one"], call_id=f"{i}") for i in range(6)]
        await asyncio.gather(*(pool.call(call) for call in calls))
        assert [sum(line.batches) for line in lines] == [6, 0, 0]

    asyncio.run(main())


def test_a_recipe_goes_only_where_its_model_and_the_tool_that_it_runs_have_a_share(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    two = replace(entries["fast"], name="fast-two", limits=Limits(concurrency=2))
    choices = tuple(Choice(name, name, "", 0.0) for name in ("fast", "fast-one", "fast-two"))
    recipes = {
        name: replace(entries["fast"], name=name, choices=choices, runs=runs, limits=Limits(limit))
        for name, runs, limit in (
            ("fast-a", None, None),
            ("fast-b", "fast-two", None),
            ("fast-c", None, 2),
        )
    }
    catalogue = Catalogue({**entries, "fast-two": two, **recipes}, "p")

    async def went(recipe: str, model: str) -> list[int]:
        lines = [LocalLine(), LocalLine(), LocalLine()]
        pool = pool_over(lines, catalogue, Losses())
        asked = [by(make_request(recipes[recipe], call_id=f"{i}"), model) for i in range(6)]
        await asyncio.gather(*(pool.call(request) for request in asked))
        return [sum(line.batches) for line in lines]

    assert asyncio.run(went("fast-a", "fast")) == [2, 2, 2]
    assert asyncio.run(went("fast-a", "fast-one")) == [6, 0, 0]
    assert asyncio.run(went("fast-b", "fast")) == [3, 3, 0]
    assert asyncio.run(went("fast-b", "fast-one")) == [6, 0, 0]
    assert asyncio.run(went("fast-c", "fast")) == [3, 3, 0]


def test_calls_of_a_dead_executor_are_made_once_more_where_they_may_be(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        lines, losses = [LocalLine(), LocalLine()], Losses()
        pool = pool_over(lines, Catalogue(entries, "p"), losses)
        again = asyncio.create_task(pool.call(make_request(entries["slow"], call_id="a")))
        await asyncio.sleep(0.01)
        once = asyncio.create_task(pool.call(make_request(entries["slow-once"], call_id="o")))
        await asyncio.sleep(0.05)
        assert [line.batches for line in lines] == [[1], [1]]
        lines[0].dead.set()
        assert cast(Any, await again).issue == 1
        lines[1].dead.set()
        result = await pool.call(make_request(entries["slow-once"], call_id="p"))
        assert isinstance(result, Failure) and result.kind is FailureKind.INFRASTRUCTURE
        assert isinstance(await once, ToolRequest | Failure)
        assert {request.call_id for request in losses.requests} >= {"a", "p"}

    asyncio.run(main())


def test_a_call_without_a_result_ends_at_its_deadline_as_lost_and_is_forgotten(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestra_ray.tools.pool.MARGIN_S", 0.01)
    entry, losses = make_entry("slow", deadline_s=0.01), Losses()

    async def main() -> None:
        pool = pool_over([LocalLine()], Catalogue({"slow": entry}, "p"), losses)
        result = await pool.call(make_request(entry))
        assert isinstance(result, Failure) and result.kind is FailureKind.TOOL
        assert "no result within 0.02 s" in result.message
        assert pool.in_flight == 0 and len(losses.requests) == 1

    asyncio.run(main())


def test_a_call_whose_caller_gave_up_stays_until_its_result(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        losses = Losses()
        pool = pool_over([LocalLine()], Catalogue(entries, "p"), losses)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.call(make_request(entries["slow"], call_id="a")), 0.01)
        assert pool.in_flight == 1
        await pool.call(make_request(entries["slow"], call_id="b"))
        assert pool.in_flight == 0 and not losses.requests

    asyncio.run(main())


def test_a_call_whose_caller_gave_up_is_lost_with_its_executor_and_not_made_again(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        lines, losses = [LocalLine(), LocalLine()], Losses()
        pool = pool_over(lines, Catalogue(entries, "p"), losses)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.call(make_request(entries["slow"])), 0.01)
        lines[0].dead.set()
        await asyncio.wait_for(losses.told.wait(), 10)
        assert pool.in_flight == 0 and [line.batches for line in lines] == [[1], []]

    asyncio.run(main())


def test_calls_wait_for_the_last_executor_to_be_there_again(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        line = LocalLine()
        pool = pool_over([line], Catalogue(entries, "p"), Losses())
        again = asyncio.create_task(pool.call(make_request(entries["slow"], call_id="a")))
        once = asyncio.create_task(pool.call(make_request(entries["slow-once"], call_id="o")))
        await asyncio.sleep(0.01)
        line.dead.set()
        assert isinstance(await once, Failure)
        new = asyncio.create_task(pool.call(make_request(entries["slow-once"], call_id="n")))
        await asyncio.sleep(0.01)
        assert line.batches == [2] and pool.in_flight == 2
        line.revive()
        assert [cast(Any, r).call_id for r in (await again, await new)] == ["a", "n"]
        assert line.batches == [2, 2]

    asyncio.run(main())


def test_where_every_executor_is_gone_for_good_calls_fail_at_once(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        line = LocalLine()
        line.dead.set()
        line.gone = True
        line.revive()
        pool = pool_over([line], Catalogue(entries, "p"), Losses())
        for call_id in "ab":
            result = await pool.call(make_request(entries["fast"], call_id=call_id))
            assert isinstance(result, Failure) and result.kind is FailureKind.INFRASTRUCTURE

    asyncio.run(main())


class BreaksOnce(LocalLine):
    broken = False

    async def exchange(self, requests: Sequence[ToolRequest]) -> Results:
        if self.broken:
            return await super().exchange(requests)
        self.broken = True
        self._tasks += [asyncio.create_task(self._run(request)) for request in requests]
        raise KeyError("a bug of ours")


def test_an_exchange_that_broke_is_taken_up_again_by_the_next_call(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        pool = pool_over([BreaksOnce()], Catalogue(entries, "p"), Losses())
        first = asyncio.create_task(pool.call(make_request(entries["fast"], call_id="a")))
        await asyncio.sleep(0.01)
        second = await pool.call(make_request(entries["fast"], call_id="b"))
        assert [cast(Any, r).call_id for r in (await first, second)] == ["a", "b"]

    asyncio.run(main())


def test_however_often_calls_go_out_one_exchange_stays_open(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        line = LocalLine()
        pool = pool_over([line], Catalogue(entries, "p"), Losses())
        calls = []
        for number in range(20):
            request = make_request(entries["slow"], call_id=f"{number}")
            calls.append(asyncio.create_task(pool.call(request)))
            await asyncio.sleep(0.005)
        assert line.batches == [1] * 20 and line.most_open <= 2
        assert [cast(Any, r).call_id for r in await asyncio.gather(*calls)] == [
            f"{i}" for i in range(20)
        ]
        assert line.open == 0

    asyncio.run(main())


def test_an_executor_that_is_added_takes_calls(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        lines = [LocalLine(), LocalLine()]
        pool = pool_over(lines[:1], Catalogue(entries, "p"), Losses())
        first = asyncio.create_task(pool.call(make_request(entries["slow"], call_id="a")))
        await asyncio.sleep(0.01)
        pool.add("new", lines[1])
        await pool.call(make_request(entries["fast"], call_id="b"))
        assert [line.batches for line in lines] == [[1], [1]]
        assert [health.name for health in pool.health()] == ["0", "new"]
        await first

    asyncio.run(main())


def test_an_executor_that_is_drained_ends_its_calls_and_gets_no_more(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        lines, losses = [LocalLine(), LocalLine()], Losses()
        pool = pool_over(lines, Catalogue(entries, "p"), losses)
        slow = [
            asyncio.create_task(pool.call(make_request(entries["slow-once"], call_id=call_id)))
            for call_id in "ab"
        ]
        await asyncio.sleep(0.01)
        draining = asyncio.create_task(pool.drain("0", deadline_s=10))
        await asyncio.sleep(0)
        assert [h.state for h in pool.health()] == [ExecutorState.LIVE, ExecutorState.DRAINING]
        one = asyncio.create_task(pool.call(make_request(entries["fast-one"], call_id="c")))
        assert await draining == 0 and not losses.requests
        assert all(isinstance(r, ToolRequest) for r in [*await asyncio.gather(*slow), await one])
        assert [line.batches for line in lines] == [[1], [1, 1]]
        assert [health.name for health in pool.health()] == ["1"] and pool.in_flight == 0
        with pytest.raises(ValueError, match="the last executor"):
            await pool.drain("1", deadline_s=1)

    asyncio.run(main())


def test_calls_that_a_drained_executor_does_not_end_are_made_elsewhere_where_they_may_be(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        lines, losses = [LocalLine(), LocalLine()], Losses()
        pool = pool_over(lines, Catalogue(entries, "p"), losses)
        again = asyncio.create_task(pool.call(make_request(entries["slow"], call_id="a")))
        await asyncio.sleep(0.01)
        other = asyncio.create_task(pool.call(make_request(entries["slow"], call_id="b")))
        await asyncio.sleep(0.01)
        once = asyncio.create_task(pool.call(make_request(entries["slow-once"], call_id="o")))
        await asyncio.sleep(0.01)
        assert [line.batches for line in lines] == [[1, 1], [1]]
        assert await pool.drain("0", deadline_s=0.05) == 2
        result = await once
        assert isinstance(result, Failure) and result.kind is FailureKind.INFRASTRUCTURE
        assert [cast(Any, r).issue for r in (await again, await other)] == [1, 0]
        assert [request.call_id for request in losses.requests] == ["a", "o"]

    asyncio.run(main())


def test_a_call_that_may_have_been_billed_outside_is_not_made_again(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main(entry: Entry) -> object:
        lines = [LocalLine(), LocalLine()]
        pool = pool_over(lines, Catalogue({entry.name: entry}, "p"), Losses())
        call = asyncio.create_task(pool.call(make_request(entry)))
        await asyncio.sleep(0.01)
        lines[0].dead.set()
        return await call

    for executor, prices, again in (
        ("endpoint", SEVEN_A_CALL, False),
        ("endpoint", Prices(), True),
        ("simulated", SEVEN_A_CALL, True),
        ("mcp", Prices(), False),
    ):
        entry = replace(make_entry("slow", prices, idempotent=None), executor=executor)
        assert isinstance(asyncio.run(main(entry)), ToolRequest) == again
    stated = replace(make_entry("slow", idempotent=True), executor="endpoint")
    assert isinstance(asyncio.run(main(stated)), ToolRequest)


def test_health_and_queues_tell_what_waits_and_for_how_long(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        line = LocalLine()
        pool = pool_over([line], Catalogue(entries, "p"), Losses())
        calls = [
            asyncio.create_task(pool.call(make_request(entries[name], call_id=name)))
            for name in ("slow", "slow-once")
        ]
        await asyncio.sleep(0.02)
        line.dead.set()
        await asyncio.sleep(0.01)
        (health,) = pool.health()
        assert (health.state, health.in_flight, health.restarts) == (ExecutorState.DOWN, 1, 0)
        assert health.why == "it died"
        (queue,) = pool.queues().values()
        assert queue == ToolQueue(1, 0, queue.oldest_wait_s) and queue.oldest_wait_s >= 0.02
        line.revive()
        await asyncio.sleep(0.01)
        (health,) = pool.health()
        assert (health.state, health.in_flight, health.restarts) == (ExecutorState.LIVE, 1, 1)
        assert list(pool.queues()) == ["slow"] and pool.queues()["slow"].in_flight == 1
        await asyncio.gather(*calls)
        assert not pool.queues()

    asyncio.run(main())


def requests(sampler: GroupSampler, count: int, prefix: str = "c") -> list[ToolRequest]:
    group = sampler.group(0, 1)
    offer = resolve(group.draw, "ask", {"model": group.draw.offers[0].alias})
    asker = Asker(1, group.group_id, "e", 0)
    return [ToolRequest(f"{prefix}{i}", asker, offer, {}, group.task, i, 0) for i in range(count)]


@pytest.fixture
def books(ray_cluster: str, tmp_path: Path) -> Any:
    return Books.options(num_cpus=0).remote("run", str(tmp_path), SpendLimits())


def executors_of(catalogue: Catalogue, books: Any, count: int) -> list[Any]:
    made = [
        ToolExecutor.options(num_cpus=0.1).remote(catalogue, books, (i, count))
        for i in range(count)
    ]
    ray.get([executor.peak_mib.remote() for executor in made])
    return made


def test_each_caller_gets_its_own_result_and_the_ledger_has_them_all(
    catalogue: Catalogue, sampler: GroupSampler, books: Any, tmp_path: Path
) -> None:
    executors = executors_of(catalogue, books, 2)

    async def main() -> list[ToolResult | Failure]:
        pool = ToolPool(executors, books, catalogue, "test")
        return await asyncio.gather(*(pool.call(r) for r in requests(sampler, 40)))

    results = [r for r in asyncio.run(main()) if isinstance(r, ToolResult)]
    assert [r.entry.call_id for r in results] == [f"c{i}" for i in range(40)]
    assert ray.get([executor.drain.remote() for executor in executors]) == [0, 0]
    closing = ray.get(books.close_step.remote(1))
    totals = closing.totals
    assert closing.failures == ()
    written = read(tmp_path / FOLDER)
    charged = sum(r.entry.charged_nanousd for r in results)
    assert sum(written["charged_nanousd"].to_pylist()) == charged > 0
    assert totals["ledger/calls"] == written.num_rows == 40
    assert totals["ledger/charged_usd"] == pytest.approx(charged / 1e9)


def test_an_executor_that_dies_is_replaced_and_loses_no_call(
    catalogue: Catalogue, sampler: GroupSampler, books: Any
) -> None:
    executors = executors_of(catalogue, books, 2)

    async def main() -> list[ToolResult | Failure]:
        pool, results = ToolPool(executors, books, catalogue, "test"), []
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
    totals = ray.get(books.close_step.remote(1)).totals
    assert totals["ledger/misposted"] == 0
    # An issue that was lost is an entry of its own: at 0 before its executor reserved anything,
    # else at the most.
    lost = totals.get("ledger/fault/lost", 0)
    assert totals["ledger/calls"] == 40 + lost
    answered_usd = sum(result.entry.charged_nanousd for result in results) / 1e9
    offer = requests(sampler, 1)[0].offer
    most_usd = most_cost_nanousd(catalogue.entries[offer.identity], offer.prices) / 1e9
    charged_usd = totals["ledger/charged_usd"]
    assert answered_usd - 1e-9 <= charged_usd <= answered_usd + lost * most_usd + 1e-9


def test_pool_wide_concurrency_holds_while_executors_come_and_go(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest], books: Any
) -> None:
    model = replace(make_entry("model", concurrency=3), kind=Kind.MODEL)
    choice = (Choice("by-model", "model", "", 0.0),)
    recipe = replace(make_entry("recipe"), executor="recipe", choices=choice)
    catalogue = Catalogue({"model": model, "recipe": recipe}, "p")

    def asked(call_id: str) -> ToolRequest:
        """Of the model itself and through the recipe, in turn."""
        if int(call_id[1:]) % 2:
            return make_request(model, call_id=call_id)
        return by(make_request(recipe, call_id=call_id), "model")

    def register(_: object) -> None:
        import asyncio
        import time

        from orchestra_ray.catalogue import Kind
        from orchestra_ray.tools.tool import Reply
        from orchestra_ray.tools.toolbox import EXECUTORS, Executable, NoSettings

        class Timed:
            async def call(self, request: object) -> Reply:
                started_s = time.monotonic()
                await asyncio.sleep(0.02)
                return Reply(f"{started_s} {time.monotonic()}")

        null = Executable(lambda entry: NoSettings(), lambda entry, settings, servers: Timed())
        cast(Any, EXECUTORS)[Kind.MODEL]["null"] = null

    def made(share: Any) -> Any:
        executor = ToolExecutor.options(num_cpus=0).remote(catalogue, books, share)
        ray.get(executor.__ray_call__.remote(register))
        return executor

    first, second = made((0, 2)), made((1, 2))

    async def main() -> list[ToolResult | Failure]:
        pool = ToolPool([first, second], books, catalogue, "test")
        calls = [asyncio.create_task(pool.call(asked(f"c{i}"))) for i in range(150)]
        await calls[9]
        third = made(None)
        await reshare([first, second, third], deadline_s=60)
        pool.add_executor(third)
        more = [asyncio.create_task(pool.call(asked(f"m{i}"))) for i in range(60)]
        await more[9]
        assert await pool.drain_executor(first, deadline_s=60) == 0
        ray.kill(first)
        await reshare([second, third], deadline_s=60)
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
def test_a_result_whose_posting_died_with_its_executor_is_one_that_nobody_had(
    catalogue: Catalogue, sampler: GroupSampler, books: Any, tmp_path: Path, idempotent: bool
) -> None:
    stated = {
        name: replace(entry, limits=replace(entry.limits, idempotent=idempotent))
        for name, entry in catalogue.entries.items()
    }
    catalogue = replace(catalogue, entries=stated)
    executors = executors_of(catalogue, books, 2)

    def post_nothing(actor: Any) -> None:
        actor._books._post = lambda: None

    def entered(actor: Any) -> int:
        return len(actor._books._ended)

    async def main() -> list[ToolResult | Failure]:
        pool, calls = ToolPool(executors, books, catalogue, "test"), requests(sampler, 20)
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
        return len(actor._books.guard._held)

    assert ray.get(books.__ray_call__.remote(held)) == 0
    totals = ray.get(books.close_step.remote(1)).totals
    assert totals["ledger/fault/lost"] == 10 and totals["ledger/misposted"] == 0
    rows = read(tmp_path / FOLDER).to_pylist()
    charged = {row["call"]: row["charged_nanousd"] for row in rows if row["error"] is None}
    assert charged == {r.entry.call_id: r.entry.charged_nanousd for r in results}


def test_books_that_are_slow_or_gone_hold_no_result_for_long(
    catalogue: Catalogue, sampler: GroupSampler, books: Any
) -> None:
    free = {name: replace(entry, prices=Prices()) for name, entry in catalogue.entries.items()}
    (executor,) = executors_of(replace(catalogue, entries=free), books, 1)
    slow, gone = (
        replace(request, offer=replace(request.offer, prices=Prices()))
        for request in requests(sampler, 2)
    )
    pid = ray.get(books.__ray_call__.remote(lambda self: os.getpid()))

    async def main() -> list[ToolResult | Failure]:
        pool, results = ToolPool([executor], books, catalogue, "test"), []
        os.kill(pid, signal.SIGSTOP)
        try:
            results.append(await pool.call(slow))
        finally:
            os.kill(pid, signal.SIGCONT)
        assert await executor.drain.remote() == 0
        ray.kill(books)
        results.append(await pool.call(gone))
        assert await executor.drain.remote() == 1
        return results

    assert all(isinstance(result, ToolResult) for result in asyncio.run(main()))


def test_a_restarted_executor_keeps_the_share_that_it_was_given_last(
    catalogue: Catalogue, sampler: GroupSampler, books: Any
) -> None:
    limited = {
        name: replace(entry, limits=replace(entry.limits, concurrency=1))
        for name, entry in catalogue.entries.items()
    }
    executor = ToolExecutor.options(num_cpus=0).remote(
        replace(catalogue, entries=limited), books, None
    )

    async def main() -> None:
        pool = ToolPool([executor], books, catalogue, "test")
        held, again = requests(sampler, 2)
        waits = asyncio.create_task(pool.call(held))
        async with asyncio.timeout(60):
            while not (load := (await executor.load.remote())[held.offer.identity]).held:
                pass
        assert load == Load(running=0, held=1) and not waits.done()
        await executor.set_share.remote(0, 1)
        assert isinstance(await waits, ToolResult)
        ray.kill(executor, no_restart=False)
        assert isinstance(await asyncio.wait_for(pool.call(again), 60), ToolResult)

    asyncio.run(main())


def posting(number: int) -> Posting:
    entry = LedgerEntry(
        call_id=f"e/{number}/policy",
        asker=Asker(1, "g", "e", number),
        identity="policy",
        alias="policy",
        kind="policy",
        price_sheet="prices",
        usage=Usage(),
        charged_nanousd=7,
        service_s=0.0,
    )
    return Posting(entry.call_id, entry)


def test_postings_reach_books_that_were_away_and_are_entered_once(
    books: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestra_ray.tools.actor.BOOKS_DEADLINE_S", 0.2)
    monkeypatch.setattr("orchestra_ray.tools.actor.POSTING_TRIES", 200)
    pid = ray.get(books.__ray_call__.remote(lambda self: os.getpid()))

    async def main() -> int:
        line = BooksLine(books)
        os.kill(pid, signal.SIGSTOP)
        try:
            for number in range(3):
                entered = line.enter(posting(number))
            await asyncio.sleep(0.5)
            assert not entered.is_set()
        finally:
            os.kill(pid, signal.SIGCONT)
        await entered.wait()
        return await line.drain()

    assert asyncio.run(main()) == 0
    totals = ray.get(books.close_step.remote(1)).totals
    assert (totals["ledger/calls"], totals["ledger/charged_usd"]) == (3, 21e-9)


def test_where_the_books_are_gone_calls_are_refused_and_lost_postings_counted(
    books: Any, sampler: GroupSampler
) -> None:
    ray.kill(books)

    async def main() -> int:
        line = BooksLine(books)
        with pytest.raises(Fault, match="the spend guard does not answer") as caught:
            await line.reserve(Reservation("c#0.1", Asker(1, "g", "e", 0), 5))
        assert caught.value.kind is FaultKind.UNAVAILABLE
        line.enter(posting(0))
        line.lost(requests(sampler, 1)[0])
        return await line.drain()

    assert asyncio.run(main()) == 2
