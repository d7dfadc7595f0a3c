"""A pool of two real executors with a spend actor, whose accounts must balance after every call."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from orchestra_ray.config.schema import CassetteConfig
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import ToolRequest, ToolResult
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind, Limits
from orchestra_ray.spend.actor import RemoteSpendActor
from orchestra_ray.spend.budget import SpendLimits, most_cost_nanousd
from orchestra_ray.workers.tools.actor import RemoteToolExecutor, ToolPool
from orchestra_ray.workers.tools.runtime.executor import Load

JSON = {"Content-Type": "application/json"}
TOKENS = Prices(input_nanousd_per_mtok=10**9, output_nanousd_per_mtok=2 * 10**9)
DEADLINE_S = 3.0
Made = Callable[..., ToolRequest]


def answer(usage: Any = None) -> str:
    body = {"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}
    return json.dumps(body | ({} if usage is None else {"usage": usage}))


FINE = {"status": 200, "headers": JSON, "parts": [answer()]}


def running(load: Mapping[str, Load]) -> int:
    return sum(of_tool.running for of_tool in load.values())


def entry_of(name: str, backend: str, settings: Mapping[str, Any], **limits: Any) -> Entry:
    kind = Kind.MODEL if backend == "endpoint" else Kind.TOOL
    given = {"retries": 0, "deadline_s": DEADLINE_S, "context_tokens": 4096} | limits
    made = Limits(max_output_tokens=64, **given)
    return Entry(name, kind, "", backend, TOKENS, 0.0, made, settings=settings)


@dataclass(frozen=True)
class World:
    """A pool of two executors, and the spend actor."""

    catalogue: Catalogue
    spend: Any
    executors: list[Any]

    def call(self, *requests: ToolRequest) -> list[ToolResult | Failure]:
        async def main() -> list[ToolResult | Failure]:
            pool = ToolPool(self.executors, self.spend, self.catalogue, requests[0].call_id)
            results = await asyncio.gather(*(pool.call(request) for request in requests))
            assert await pool.drain() == 0
            return list(results)

        return asyncio.run(main())

    def one(self, request: ToolRequest) -> ToolResult:
        """Returns the result, after checking that the accounts balance."""
        (result,) = self.call(request)
        assert isinstance(result, ToolResult), result
        assert result.entry.charged_nanousd <= self.most(request) * (1 + result.entry.retries)
        self.balance()
        return result

    def most(self, request: ToolRequest) -> int:
        entry = self.catalogue.entries[request.option.identity]
        return most_cost_nanousd(entry, request.option.prices)

    def balance(self) -> dict[str, float]:
        """Asserts that the budget equals the sum of the ledger, and no call is open."""
        assert not any(ray.get([executor.drain.remote() for executor in self.executors]))

        def figures(actor: Any) -> tuple[int, int, int]:
            accounts = actor._accounts
            charged = sum(total.charged_nanousd for total in accounts.ledger.by_identity.values())
            return accounts.budget.committed_nanousd, charged, len(accounts.budget._held)

        committed, charged, held = ray.get(self.spend.__ray_call__.remote(figures))
        assert (committed, held) == (charged, 0)
        closed = ray.get(self.spend.close_step.remote(0))
        assert closed.totals["ledger/inconsistent"] == 0
        return dict(closed.totals)


def world_of(entries: Mapping[str, Entry], tape: CassetteConfig | None = None) -> Iterator[World]:
    catalogue = Catalogue(entries, "prices")
    spend: Any = RemoteSpendActor.options(num_cpus=0).remote("run", None, SpendLimits())
    executors: list[Any] = [
        RemoteToolExecutor.options(num_cpus=0.1).remote(catalogue, spend, (i, 2), False, tape)
        for i in range(2)
    ]
    ray.get([executor.ready.remote() for executor in executors])
    try:
        yield World(catalogue, spend, executors)
    finally:
        for actor in (*executors, spend):
            ray.kill(actor)
