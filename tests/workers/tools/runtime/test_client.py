"""How a pool sends calls and gets results, with clients in this process."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.data.catalogue import Catalogue, Choice, Entry, Limits
from orchestra_ray.workers.tools.runtime.client import Results
from orchestra_ray.workers.tools.runtime.health import ExecutorState, ToolQueue

from ..pool_clients import LocalClient, Losses, by, pool_over


def test_calls_of_one_moment_travel_together_and_none_waits_for_a_slower_one(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        client = LocalClient()
        pool = pool_over([client], Catalogue(entries, "p"), Losses())
        slow = asyncio.create_task(pool.call(make_request(entries["slow"], call_id="s")))
        fast = [
            asyncio.create_task(pool.call(make_request(entries["fast"], call_id=f"{i}")))
            for i in range(20)
        ]
        done = await asyncio.gather(*fast)
        assert not slow.done() and client.batches == [21]
        assert [cast(Any, result).call_id for result in done] == [f"{i}" for i in range(20)]
        assert cast(Any, await slow).call_id == "s" and pool.in_flight == 0

    asyncio.run(main())


def test_a_limited_tool_runs_only_where_it_has_a_quota(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        clients = [LocalClient(), LocalClient(), LocalClient()]
        pool = pool_over(clients, Catalogue(entries, "p"), Losses())
        calls = [make_request(entries["fast-one"], call_id=f"{i}") for i in range(6)]
        await asyncio.gather(*(pool.call(call) for call in calls))
        assert [sum(client.batches) for client in clients] == [6, 0, 0]

    asyncio.run(main())


def test_a_recipe_goes_only_where_its_model_and_the_tool_that_it_runs_have_a_quota(
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
        clients = [LocalClient(), LocalClient(), LocalClient()]
        pool = pool_over(clients, catalogue, Losses())
        asked = [by(make_request(recipes[recipe], call_id=f"{i}"), model) for i in range(6)]
        await asyncio.gather(*(pool.call(request) for request in asked))
        return [sum(client.batches) for client in clients]

    assert asyncio.run(went("fast-a", "fast")) == [2, 2, 2]
    assert asyncio.run(went("fast-a", "fast-one")) == [6, 0, 0]
    assert asyncio.run(went("fast-b", "fast")) == [3, 3, 0]
    assert asyncio.run(went("fast-b", "fast-one")) == [6, 0, 0]
    assert asyncio.run(went("fast-c", "fast")) == [3, 3, 0]


def test_a_call_without_a_result_ends_at_its_deadline_as_lost_and_is_forgotten(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("orchestra_ray.workers.tools.runtime.client.MARGIN_S", 0.01)
    entry, losses = make_entry("slow", deadline_s=0.01), Losses()

    async def main() -> None:
        pool = pool_over([LocalClient()], Catalogue({"slow": entry}, "p"), losses)
        result = await pool.call(make_request(entry))
        assert isinstance(result, Failure) and result.kind is FailureKind.TOOL
        assert "no result within 0.02 s" in result.message
        assert pool.in_flight == 0 and len(losses.requests) == 1
        dead = LocalClient()
        dead.dead.set()
        pool = pool_over([dead], Catalogue({"slow": entry}, "p"), losses)
        assert isinstance(await pool.call(make_request(entry)), Failure)
        never_sent = losses.requests[-1]
        assert never_sent.reissues == 1 and never_sent.waited_s > 0 and pool.in_flight == 0

    asyncio.run(main())


def test_a_call_whose_caller_gave_up_stays_until_its_result(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        losses = Losses()
        pool = pool_over([LocalClient()], Catalogue(entries, "p"), losses)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.call(make_request(entries["slow"], call_id="a")), 0.01)
        assert pool.in_flight == 1
        await pool.call(make_request(entries["slow"], call_id="b"))
        assert pool.in_flight == 0 and not losses.requests

    asyncio.run(main())


class BreaksOnce(LocalClient):
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
        client = LocalClient()
        pool = pool_over([client], Catalogue(entries, "p"), Losses())
        calls = []
        for number in range(20):
            request = make_request(entries["slow"], call_id=f"{number}")
            calls.append(asyncio.create_task(pool.call(request)))
            await asyncio.sleep(0.005)
        assert client.batches == [1] * 20 and client.most_open <= 2
        assert [cast(Any, r).call_id for r in await asyncio.gather(*calls)] == [
            f"{i}" for i in range(20)
        ]
        assert client.open == 0

    asyncio.run(main())


def test_health_and_queues_tell_what_waits_and_for_how_long(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        client = LocalClient()
        pool = pool_over([client], Catalogue(entries, "p"), Losses())
        calls = [
            asyncio.create_task(pool.call(make_request(entries[name], call_id=name)))
            for name in ("slow", "slow-once")
        ]
        await asyncio.sleep(0.02)
        client.dead.set()
        await asyncio.sleep(0.01)
        (health,) = pool.health()
        assert (health.state, health.in_flight, health.restarts) == (ExecutorState.DOWN, 1, 0)
        assert health.why == "it died"
        (queue,) = pool.queues().values()
        assert queue == ToolQueue(1, 0, queue.oldest_wait_s) and queue.oldest_wait_s >= 0.02
        client.revive()
        await asyncio.sleep(0.01)
        (health,) = pool.health()
        assert (health.state, health.in_flight, health.restarts) == (ExecutorState.LIVE, 1, 1)
        assert list(pool.queues()) == ["slow"] and pool.queues()["slow"].in_flight == 1
        await asyncio.gather(*calls)
        assert not pool.queues()

    asyncio.run(main())
