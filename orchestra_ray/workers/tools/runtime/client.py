"""The client side of the executor pool: batches calls, returns results, handles lost executors.

Calls made in the same iteration of the event loop are sent together, and results come back in the
batches in which they end, so that a call costs far less than a round trip and none waits for a
slower one. A call stays with its executor until its result, the executor's death or its deadline,
even if its caller was cancelled: so it always ends in the spend accounts, as a result or as lost.
While an executor is restarted nothing is sent to it; its calls go to the others, or wait.

Executors are added and drained at run time. Their order is that of the quotas: the executor of
index i has a part of each concurrency limit above i, and calls go only to executors that have a
part of every concurrency limit of theirs.

A call that cannot be sent fails alone. If an exchange fails, its calls end or are reissued: none of
them waits for its deadline.

No Ray here: an `ExecutorClient` carries calls to one executor. All state is touched by one event
loop only.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.records import ToolOption, ToolRequest, ToolResult
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.spend.accounts import call_of
from orchestra_ray.workers.tools.runtime.attempts import parts_of
from orchestra_ray.workers.tools.runtime.health import (
    ExecutorHealth,
    ExecutorState,
    ToolQueue,
    queues_of,
)

MARGIN_S = 10.0  # beyond the entry's deadline, for the cassette, the spend actor and the transfer
REISSUES = 1
WHERE = "tool pool"

Results = Sequence[tuple[str, ToolResult | Failure]]

_log = logging.getLogger(__name__)


class ExecutorLost(Exception):
    """The executor died or stopped answering; its calls are lost."""


class Unsendable(Exception):
    """Nothing was sent, because of these calls; `reasons` by `call_of`. The others can be sent."""

    def __init__(self, reasons: Mapping[str, str]):
        super().__init__(*reasons.values())
        self.reasons = reasons


class ExecutorClient(Protocol):
    """The connection to one executor. Each method raises `ExecutorLost`."""

    async def exchange(self, requests: Sequence[ToolRequest]) -> Results:
        """Sends calls, and returns (`call_of`, result) of the calls that have ended.

        Returns as soon as there is a result; or empty, after a while or if a later exchange is
        open. Raises `Unsendable` before anything is sent.
        """
        ...

    async def revived(self) -> None:
        """Returns when a lost executor is restarted, without its calls.

        Kills it first if it hangs, so that it is restarted.
        """
        ...


class LossReport(Protocol):
    def lost(self, request: ToolRequest) -> None:
        """Enters the maximum cost of a lost call, unless the call is entered already."""
        ...


@dataclass(slots=True, eq=False)
class _Call:
    request: ToolRequest
    future: asyncio.Future[ToolResult | Failure]
    queue: "_ExecutorQueue"
    asked_s: float
    placed_s: float  # since when it waits to be sent, counted anew for a reissue
    expiry: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> tuple[str, float]:
        """The tool, and the seconds without a result."""
        return self.request.option.identity, asyncio.get_running_loop().time() - self.asked_s

    def leaves(self) -> ToolRequest:
        """Returns the request with its waiting time here; a duration, since clocks differ."""
        waited_s = asyncio.get_running_loop().time() - self.placed_s
        self.request = replace(self.request, waited_s=waited_s)
        return self.request

    def reissue(self) -> None:
        self.request = replace(self.request, reissues=self.request.reissues + 1, waited_s=0.0)
        self.placed_s = asyncio.get_running_loop().time()

    def end(self, result: ToolResult | Failure) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
        if not self.future.done():  # its caller may have given up
            self.future.set_result(result)


@dataclass(slots=True, eq=False)
class _ExecutorQueue:
    """The calls that wait for one executor, and those sent to it by `call_of`."""

    name: str
    client: ExecutorClient
    waiting: list[_Call] = field(default_factory=list)
    sent: dict[str, _Call] = field(default_factory=dict)
    exchanges: int = 0  # open with the current process
    restarts: int = 0
    down: str | None = None  # why, until the executor is restarted
    gone: bool = False  # it cannot be restarted
    emptied: asyncio.Event | None = None  # set while it is drained

    def __len__(self) -> int:
        return len(self.waiting) + len(self.sent)

    def take(self, key: str) -> _Call | None:
        call = self.sent.pop(key, None)
        if self.emptied is not None and not self.sent:
            self.emptied.set()
        return call

    @property
    def state(self) -> ExecutorState:
        if self.gone:
            return ExecutorState.GONE
        if self.emptied is not None:
            return ExecutorState.DRAINING
        return ExecutorState.LIVE if self.down is None else ExecutorState.DOWN


class Pool:
    """Sends each call to the executor with the fewest in flight among those that may run it."""

    def __init__(
        self, clients: Mapping[str, ExecutorClient], catalogue: Catalogue, losses: LossReport
    ):
        self._catalogue, self._losses = catalogue, losses
        self._queues = [_ExecutorQueue(name, client) for name, client in clients.items()]
        self._draining: list[_ExecutorQueue] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, request: ToolRequest) -> ToolResult | Failure:
        """Returns the result, or the pool's failure, within the entry's deadline and a margin."""
        loop = asyncio.get_running_loop()
        now_s, queue = loop.time(), self._queue_for(request)
        call = _Call(request, loop.create_future(), queue, now_s, now_s)
        deadline_s = self._catalogue.entries[request.option.identity].limits.deadline_s + MARGIN_S
        call.expiry = loop.call_later(deadline_s, self._expire, call, deadline_s)
        self._place(call)
        return await call.future

    def add(self, name: str, client: ExecutorClient) -> None:
        """Adds an executor as the last in the order."""
        self._queues.append(_ExecutorQueue(name, client))

    async def drain(self, name: str, deadline_s: float) -> int:
        """Removes an executor when its calls have ended or the deadline is over.

        Returns the number of calls that did not end: they are lost, and reissued if they may be.
        """
        queue = next(queue for queue in self._queues if queue.name == name)
        if len(self._queues) == 1:
            raise ValueError(f"{WHERE}: {name} is the last executor; add another first")
        self._queues.remove(queue)
        self._draining.append(queue)
        queue.emptied = asyncio.Event()
        waiting, queue.waiting = queue.waiting, []
        for call in waiting:
            self._place_anew(call)
        try:
            async with asyncio.timeout(deadline_s):
                if queue.sent:
                    await queue.emptied.wait()
        except TimeoutError:
            pass
        left = len(queue.sent)
        self._lose(queue, list(queue.sent), "it was taken out of the pool")
        self._draining.remove(queue)
        return left

    @property
    def in_flight(self) -> int:
        return sum(len(queue) for queue in (*self._queues, *self._draining))

    def health(self) -> list[ExecutorHealth]:
        return [
            ExecutorHealth(
                queue.name,
                queue.state,
                queue.down or "",
                len(queue),
                queue.restarts,
            )
            for queue in (*self._queues, *self._draining)
        ]

    def queues(self) -> Mapping[str, ToolQueue]:
        """Returns the queue of each tool that has a call."""
        queues = (*self._queues, *self._draining)
        return queues_of(
            [call.waits for queue in queues for call in queue.waiting],
            [call.waits for queue in queues for call in queue.sent.values()],
        )

    def _queue_for(
        self, request: ToolRequest, avoid: _ExecutorQueue | None = None
    ) -> _ExecutorQueue:
        able = self._queues[: self._concurrency(request.option)]  # the others have no quota of it
        return min(
            able,
            key=lambda queue: (
                queue.gone,
                bool(queue.down),
                queue is avoid,
                len(queue),
            ),
        )

    def _concurrency(self, option: ToolOption) -> int | None:
        entries = self._catalogue.entries
        entry = entries[option.identity]
        kept = [entry, *(entries[part] for part in parts_of(entry, option) if part in entries)]
        return min((e.limits.concurrency for e in kept if e.limits.concurrency), default=None)

    def _place(self, call: _Call) -> None:
        queue = call.queue
        if queue.gone:
            self._fail(call, str(queue.down))
            return
        if not queue.waiting and not queue.down:
            asyncio.get_running_loop().call_soon(self._send, queue)
        queue.waiting.append(call)

    def _place_anew(self, call: _Call, avoid: _ExecutorQueue | None = None) -> None:
        call.queue = self._queue_for(call.request, avoid)
        self._place(call)

    def _expire(self, call: _Call, deadline_s: float) -> None:
        queue = call.queue
        if queue.take(call_of(call.request)) is None:  # it was never sent
            queue.waiting = [other for other in queue.waiting if other is not call]
            call.leaves()
        self._losses.lost(call.request)
        message = f"{call.request.option.identity}: no result within {deadline_s:g} s"
        call.end(Failure(FailureKind.TOOL, WHERE, message))

    def _send(self, queue: _ExecutorQueue) -> None:
        """Sends the waiting calls; if there are none, waits for results."""
        if queue.down or not (queue.waiting or queue.sent and not queue.exchanges):
            return
        calls, queue.waiting = queue.waiting, []
        requests = [call.leaves() for call in calls]
        queue.sent.update(zip(map(call_of, requests), calls, strict=True))
        self._start(self._exchange(queue, requests))

    async def _exchange(self, queue: _ExecutorQueue, requests: Sequence[ToolRequest]) -> None:
        restarts = queue.restarts
        queue.exchanges += 1
        try:
            for key, result in await queue.client.exchange(requests):
                call = queue.take(key)
                if call is not None:
                    call.end(result)
        except ExecutorLost as error:
            if restarts == queue.restarts and not queue.down:
                self._lose_executor(queue, str(error))
            return
        except Unsendable as error:
            self._refuse(queue, error.reasons)
            rest = [request for request in requests if call_of(request) not in error.reasons]
            if rest and not queue.down:
                self._start(self._exchange(queue, rest))
        except Exception as error:  # a bug of the pool: its calls must not wait for their deadlines
            _log.exception("an exchange with executor %s failed", queue.name)
            keys = [call_of(request) for request in requests] or list(queue.sent)
            self._lose(queue, keys, f"{type(error).__name__}: {error}")
        finally:
            if restarts == queue.restarts:
                queue.exchanges -= 1
        self._send(queue)

    def _refuse(self, queue: _ExecutorQueue, reasons: Mapping[str, str]) -> None:
        """Ends the calls that cannot be sent."""
        for key, why in reasons.items():
            call = queue.take(key)
            if call is not None:
                self._losses.lost(call.request)
                message = f"{call.request.option.identity}: the call cannot be sent ({why})"
                call.end(Failure(FailureKind.TOOL, WHERE, message))

    def _lose_executor(self, queue: _ExecutorQueue, reason: str) -> None:
        queue.down = reason
        self._lose(queue, list(queue.sent), reason)
        if queue.emptied is None:
            self._start(self._revive(queue))

    def _lose(self, queue: _ExecutorQueue, keys: Sequence[str], reason: str) -> None:
        """Reissues the calls that may be made twice at other executors; the others fail."""
        for call in filter(None, [queue.take(key) for key in keys]):
            request = call.request
            self._losses.lost(request)
            entry = self._catalogue.entries[request.option.identity]
            again = request.reissues < REISSUES and entry.is_idempotent(request.option.prices)
            if again and not call.future.done():
                call.reissue()
                self._place_anew(call, avoid=queue)
            else:
                self._fail(call, reason)

    async def _revive(self, queue: _ExecutorQueue) -> None:
        waiting: list[_Call] = []
        try:
            await queue.client.revived()
            queue.down, queue.exchanges = None, 0
            queue.restarts += 1
        except Exception as error:
            if not isinstance(error, ExecutorLost):
                _log.exception("executor %s cannot be restarted", queue.name)
            queue.gone = True
            waiting, queue.waiting = queue.waiting, []
        self._send(queue)
        for call in waiting:
            self._place_anew(call, avoid=queue)

    def _fail(self, call: _Call, reason: str) -> None:
        message = f"{call.request.option.identity}: its executor was lost ({reason})"
        call.end(Failure(FailureKind.INFRASTRUCTURE, WHERE, message))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
