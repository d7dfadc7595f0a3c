"""Executor clients that run calls in this process, and die and restart as a test says."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import ToolRequest, ToolResult
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.spend.accounts import call_of
from orchestra_ray.workers.tools.runtime.client import ExecutorLost, Pool, Results
from orchestra_ray.workers.tools.runtime.mailbox import Mailbox

SECONDS = {"fast": 0.0, "slow": 0.5}


class LocalClient:
    """Runs calls for as long as their entry's name says; loses everything when it is `dead`."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.open, self.most_open = 0, 0
        self.dead, self.again = asyncio.Event(), asyncio.Event()
        self.gone = False
        self._mailbox: Mailbox[tuple[str, ToolResult | Failure]] = Mailbox()
        self._tasks: list[asyncio.Task[None]] = []

    async def exchange(self, requests: Sequence[ToolRequest]) -> Results:
        if self.dead.is_set():
            raise ExecutorLost("it is dead")
        if requests:
            self.batches.append(len(requests))
        self._tasks += [asyncio.create_task(self._run(request)) for request in requests]
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        ended = asyncio.ensure_future(self._mailbox.take(10))
        death = asyncio.ensure_future(self.dead.wait())
        await asyncio.wait({ended, death}, return_when=asyncio.FIRST_COMPLETED)
        self.open -= 1
        if self.dead.is_set():
            raise ExecutorLost("it died")
        death.cancel()
        return ended.result()

    async def _run(self, request: ToolRequest) -> None:
        await asyncio.sleep(SECONDS[request.option.identity.split("-")[0]])
        self._mailbox.put((call_of(request), cast(ToolResult, request)))

    async def revived(self) -> None:
        await self.again.wait()
        if self.gone:
            raise ExecutorLost("it stays dead")
        self.dead.clear()

    def revive(self) -> None:
        self.again.set()


def by(request: ToolRequest, model: str) -> ToolRequest:
    """A recipe's call, done by a model."""
    choice = replace(request.option, alias=model, identity=model, kind="model")
    return replace(request, option=replace(request.option, choices=(choice,)))


def pool_over(clients: Sequence[LocalClient], catalogue: Catalogue, losses: "Losses") -> Pool:
    return Pool({f"{number}": client for number, client in enumerate(clients)}, catalogue, losses)


class Losses:
    def __init__(self) -> None:
        self.requests: list[ToolRequest] = []
        self.told = asyncio.Event()

    def lost(self, request: ToolRequest) -> None:
        self.requests.append(request)
        self.told.set()
