"""A pool of two real executors and its books, which must balance after whatever befalls a call."""

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
from orchestra_ray.spend.budget import SpendLimits, most_cost_nanousd
from orchestra_ray.workers.tools.actor import Books, ToolExecutor, ToolPool
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
    """A pool of two executors, and the books."""

    catalogue: Catalogue
    books: Any
    executors: list[Any]

    def call(self, *requests: ToolRequest) -> list[ToolResult | Failure]:
        async def main() -> list[ToolResult | Failure]:
            pool = ToolPool(self.executors, self.books, self.catalogue, requests[0].call_id)
            results = await asyncio.gather(*(pool.call(request) for request in requests))
            assert await pool.drain() == 0
            return list(results)

        return asyncio.run(main())

    def one(self, request: ToolRequest) -> ToolResult:
        """Its result, with the books in balance after it."""
        (result,) = self.call(request)
        assert isinstance(result, ToolResult), result
        assert result.entry.charged_nanousd <= self.most(request) * (1 + result.entry.retries)
        self.balance()
        return result

    def most(self, request: ToolRequest) -> int:
        entry = self.catalogue.entries[request.option.identity]
        return most_cost_nanousd(entry, request.option.prices)

    def balance(self) -> dict[str, float]:
        """What the guard holds is what the ledger's entries sum to, and no call is still open."""
        assert not any(ray.get([executor.drain.remote() for executor in self.executors]))

        def figures(actor: Any) -> tuple[int, int, int]:
            books = actor._books
            charged = sum(total.charged_nanousd for total in books.ledger.by_identity.values())
            return books.budget.committed_nanousd, charged, len(books.budget._held)

        committed, charged, held = ray.get(self.books.__ray_call__.remote(figures))
        assert (committed, held) == (charged, 0)
        closing = ray.get(self.books.close_step.remote(0))
        assert closing.totals["ledger/misposted"] == 0
        return dict(closing.totals)


def world_of(entries: Mapping[str, Entry], tape: CassetteConfig | None = None) -> Iterator[World]:
    catalogue = Catalogue(entries, "prices")
    books: Any = Books.options(num_cpus=0).remote("run", None, SpendLimits())
    executors: list[Any] = [
        ToolExecutor.options(num_cpus=0.1).remote(catalogue, books, (i, 2), False, tape)
        for i in range(2)
    ]
    ray.get([executor.ready.remote() for executor in executors])
    try:
        yield World(catalogue, books, executors)
    finally:
        for actor in (*executors, books):
            ray.kill(actor)
