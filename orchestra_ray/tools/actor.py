"""The tool executor pool: CPU actors, and the client through which a rollout worker reaches them.

Calls asked for in the same turn of the event loop travel together, so that a batch of concurrent
episodes pays one Ray round trip. A lost actor or a missed deadline is a `Failure`.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from orchestra_ray.catalogue import Catalogue
from orchestra_ray.core.memory import peak_mib
from orchestra_ray.core.records import ToolRequest, ToolResult
from orchestra_ray.core.states import Failure, FailureKind
from orchestra_ray.tools.executor import Executor


@ray.remote(max_restarts=-1)  # it keeps no state
class ToolExecutor:
    def __init__(self, catalogue: Catalogue):
        self._executor = Executor(catalogue)

    async def execute(self, requests: Sequence[ToolRequest]) -> list[ToolResult]:
        return await asyncio.gather(*(self._executor.execute(request) for request in requests))

    async def peak_mib(self) -> Mapping[str, float]:
        return {"tools": peak_mib()}


class ToolPool:
    """Client side, over actor handles. All of its state is touched by one event loop only."""

    def __init__(self, executors: Sequence[Any], deadline_s: float):
        self._executors = executors
        self._deadline_s = deadline_s
        self._in_flight = [0] * len(executors)
        self._waiting: list[tuple[ToolRequest, asyncio.Future[ToolResult | Failure]]] = []
        self._batches: set[asyncio.Task[None]] = set()

    async def call(self, request: ToolRequest) -> ToolResult | Failure:
        """The result, or the failure of the pool; always within the deadline."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ToolResult | Failure] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._send)
        self._waiting.append((request, future))
        return await future

    def _send(self) -> None:
        batch, self._waiting = self._waiting, []
        index = min(range(len(self._executors)), key=self._in_flight.__getitem__)
        self._in_flight[index] += len(batch)
        task = asyncio.get_running_loop().create_task(self._run(index, batch))
        self._batches.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._batches.discard)

    async def _run(
        self, index: int, batch: list[tuple[ToolRequest, asyncio.Future[ToolResult | Failure]]]
    ) -> None:
        requests = [request for request, _ in batch]
        results: Sequence[ToolResult | Failure]
        try:
            async with asyncio.timeout(self._deadline_s):
                results = await self._executors[index].execute.remote(requests)
        except TimeoutError:
            message = f"{len(batch)} calls ran past {self._deadline_s:g} s"
            results = [Failure(FailureKind.TOOL, "ToolPool", message)] * len(batch)
        except RayError as error:
            message = f"executor {index}: {type(error).__name__}"
            results = [Failure(FailureKind.INFRASTRUCTURE, "ToolPool", message)] * len(batch)
        finally:
            self._in_flight[index] -= len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
