"""A pool's calls when executors die, are added and drained, with clients in this process."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.data.catalogue import Catalogue, Entry
from orchestra_ray.workers.tools.runtime.health import ExecutorState

from ..pool_clients import LocalClient, Losses, pool_over

SEVEN_A_CALL = Prices(call_nanousd=7)


def test_calls_of_a_dead_executor_are_made_once_more_where_they_may_be(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        clients, losses = [LocalClient(), LocalClient()], Losses()
        pool = pool_over(clients, Catalogue(entries, "p"), losses)
        again = asyncio.create_task(pool.call(make_request(entries["slow"], call_id="a")))
        await asyncio.sleep(0.01)
        once = asyncio.create_task(pool.call(make_request(entries["slow-once"], call_id="o")))
        await asyncio.sleep(0.05)
        assert [client.batches for client in clients] == [[1], [1]]
        clients[0].dead.set()
        assert cast(Any, await again).reissues == 1
        clients[1].dead.set()
        result = await pool.call(make_request(entries["slow-once"], call_id="p"))
        assert isinstance(result, Failure) and result.kind is FailureKind.INFRASTRUCTURE
        assert isinstance(await once, ToolRequest | Failure)
        assert {request.call_id for request in losses.requests} >= {"a", "p"}

    asyncio.run(main())


def test_a_call_whose_caller_gave_up_is_lost_with_its_executor_and_not_made_again(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        clients, losses = [LocalClient(), LocalClient()], Losses()
        pool = pool_over(clients, Catalogue(entries, "p"), losses)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.call(make_request(entries["slow"])), 0.01)
        clients[0].dead.set()
        await asyncio.wait_for(losses.told.wait(), 10)
        assert pool.in_flight == 0 and [client.batches for client in clients] == [[1], []]

    asyncio.run(main())


def test_calls_wait_for_the_last_executor_to_be_there_again(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        client = LocalClient()
        pool = pool_over([client], Catalogue(entries, "p"), Losses())
        again = asyncio.create_task(pool.call(make_request(entries["slow"], call_id="a")))
        once = asyncio.create_task(pool.call(make_request(entries["slow-once"], call_id="o")))
        await asyncio.sleep(0.01)
        client.dead.set()
        assert isinstance(await once, Failure)
        new = asyncio.create_task(pool.call(make_request(entries["slow-once"], call_id="n")))
        await asyncio.sleep(0.01)
        assert client.batches == [2] and pool.in_flight == 2
        await asyncio.sleep(0.05)
        client.revive()
        sent = [cast(Any, r) for r in (await again, await new)]
        assert [request.call_id for request in sent] == ["a", "n"]
        assert all(request.waited_s >= 0.05 for request in sent)  # for the ledger
        assert client.batches == [2, 2]

    asyncio.run(main())


def test_where_every_executor_is_gone_for_good_calls_fail_at_once(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        client = LocalClient()
        client.dead.set()
        client.gone = True
        client.revive()
        pool = pool_over([client], Catalogue(entries, "p"), Losses())
        for call_id in "ab":
            result = await pool.call(make_request(entries["fast"], call_id=call_id))
            assert isinstance(result, Failure) and result.kind is FailureKind.INFRASTRUCTURE

    asyncio.run(main())


def test_an_executor_that_is_added_takes_calls(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        clients = [LocalClient(), LocalClient()]
        pool = pool_over(clients[:1], Catalogue(entries, "p"), Losses())
        first = asyncio.create_task(pool.call(make_request(entries["slow"], call_id="a")))
        await asyncio.sleep(0.01)
        pool.add("new", clients[1])
        await pool.call(make_request(entries["fast"], call_id="b"))
        assert [client.batches for client in clients] == [[1], [1]]
        assert [health.name for health in pool.health()] == ["0", "new"]
        await first

    asyncio.run(main())


def test_an_executor_that_is_drained_ends_its_calls_and_gets_no_more(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        clients, losses = [LocalClient(), LocalClient()], Losses()
        pool = pool_over(clients, Catalogue(entries, "p"), losses)
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
        assert [client.batches for client in clients] == [[1], [1, 1]]
        assert [health.name for health in pool.health()] == ["1"] and pool.in_flight == 0
        with pytest.raises(ValueError, match="the last executor"):
            await pool.drain("1", deadline_s=1)

    asyncio.run(main())


def test_calls_that_a_drained_executor_does_not_end_are_made_elsewhere_where_they_may_be(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        clients, losses = [LocalClient(), LocalClient()], Losses()
        pool = pool_over(clients, Catalogue(entries, "p"), losses)
        again = asyncio.create_task(pool.call(make_request(entries["slow"], call_id="a")))
        await asyncio.sleep(0.01)
        other = asyncio.create_task(pool.call(make_request(entries["slow"], call_id="b")))
        await asyncio.sleep(0.01)
        once = asyncio.create_task(pool.call(make_request(entries["slow-once"], call_id="o")))
        await asyncio.sleep(0.01)
        assert [client.batches for client in clients] == [[1, 1], [1]]
        assert await pool.drain("0", deadline_s=0.05) == 2
        result = await once
        assert isinstance(result, Failure) and result.kind is FailureKind.INFRASTRUCTURE
        assert [cast(Any, r).reissues for r in (await again, await other)] == [1, 0]
        assert [request.call_id for request in losses.requests] == ["a", "o"]

    asyncio.run(main())


def test_a_call_that_may_have_been_billed_outside_is_not_made_again(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main(entry: Entry) -> object:
        clients = [LocalClient(), LocalClient()]
        pool = pool_over(clients, Catalogue({entry.name: entry}, "p"), Losses())
        call = asyncio.create_task(pool.call(make_request(entry)))
        await asyncio.sleep(0.01)
        clients[0].dead.set()
        return await call

    for backend, prices, again in (
        ("endpoint", SEVEN_A_CALL, False),
        ("endpoint", Prices(), True),
        ("simulated", SEVEN_A_CALL, True),
        ("mcp", Prices(), False),
    ):
        entry = replace(make_entry("slow", prices, idempotent=None), backend=backend)
        assert isinstance(asyncio.run(main(entry)), ToolRequest) == again
    stated = replace(make_entry("slow", idempotent=True), backend="endpoint")
    assert isinstance(asyncio.run(main(stated)), ToolRequest)
