"""The client's side of the executor pool: batches out, results in, and what to do about a death.

Calls that are asked for in the same turn of the event loop travel together, and results come back
in whatever batches they end in, so that a call costs far less than a round trip and none waits for
a slower one. A call stays with its executor until its result, the executor's death or its deadline,
also when its caller has given up: so it always ends in the books, by the executor or as lost. While
an executor is started again nothing is sent to it; calls go to the others, or wait.

Executors come and go (`add`, `drain`). Their order is that of the shares of limits: one of index i
has a part of a concurrency above i, and calls go only where they have a part of every concurrency
that they keep.

A call that cannot be sent ends alone. Where an exchange breaks, for whatever reason, its calls end
or are made again: none of them waits for its deadline.

No Ray here: a `Line` carries calls to one executor. All state is touched by one event loop only.
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

MARGIN_S = 10.0  # beyond the entry's own deadline: the cassette, the books, there and back
REISSUES = 1
WHERE = "tool pool"

Results = Sequence[tuple[str, ToolResult | Failure]]

_log = logging.getLogger(__name__)


class ExecutorLost(Exception):
    """The executor died, or answers no more; what it had is lost."""


class Unsendable(Exception):
    """Nothing was sent, because of these calls: why, by `call_of` each. The others can be sent."""

    def __init__(self, reasons: Mapping[str, str]):
        super().__init__(*reasons.values())
        self.reasons = reasons


class Line(Protocol):
    """To one executor. Each method raises `LineLost`."""

    async def exchange(self, requests: Sequence[ToolRequest]) -> Results:
        """Gives it calls, and returns (`call_of` it, result) of those that have ended.

        It returns as soon as there is one; or with none, when there is a later exchange to return
        them, or after a while. Raises `Unsendable` before anything is sent.
        """
        ...

    async def revived(self) -> None:
        """Returns when an executor that was lost is there again; what it had is gone.

        Ends one that hangs first, so that it is started again.
        """
        ...


class LossReport(Protocol):
    def lost(self, request: ToolRequest) -> None:
        """Enters what a lost call may have cost; a call that was entered already stays as it is."""
        ...


@dataclass(slots=True, eq=False)
class _Call:
    request: ToolRequest
    future: asyncio.Future[ToolResult | Failure]
    executor_queue: "_ExecutorQueue"
    asked_s: float
    placed_s: float  # since when this issue waits to be sent
    expiry: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> tuple[str, float]:
        """Its tool, and how long it has had no result."""
        return self.request.option.identity, asyncio.get_running_loop().time() - self.asked_s

    def leaves(self) -> ToolRequest:
        """Its request, with how long this issue waited here; a duration, for clocks differ."""
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
    """The calls that wait for one executor, and those that it has by what the books call them."""

    name: str
    line: Line
    waiting: list[_Call] = field(default_factory=list)
    sent: dict[str, _Call] = field(default_factory=dict)
    exchanges: int = 0  # under way with the process that is there now
    lives: int = 0  # how often it was there again
    down: str | None = None  # why, until the executor is there again
    gone: bool = False  # it never will be
    emptied: asyncio.Event | None = None  # while it is drained

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
    """Calls go to the executor with the fewest in flight, among those that may run the tool."""

    def __init__(self, lines: Mapping[str, Line], catalogue: Catalogue, losses: LossReport):
        self._catalogue, self._losses = catalogue, losses
        self._queues = [_ExecutorQueue(name, line) for name, line in lines.items()]
        self._draining: list[_ExecutorQueue] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, request: ToolRequest) -> ToolResult | Failure:
        """The result, or the failure of the pool; within the entry's deadline and a margin."""
        loop = asyncio.get_running_loop()
        now_s, executor_queue = loop.time(), self._queue_for(request)
        call = _Call(request, loop.create_future(), executor_queue, now_s, now_s)
        deadline_s = self._catalogue.entries[request.option.identity].limits.deadline_s + MARGIN_S
        call.expiry = loop.call_later(deadline_s, self._expire, call, deadline_s)
        self._place(call)
        return await call.future

    def add(self, name: str, line: Line) -> None:
        """One more executor, the last in the order."""
        self._queues.append(_ExecutorQueue(name, line))

    async def drain(self, name: str, deadline_s: float) -> int:
        """Takes an executor out, once it has no call any more or the deadline is over.

        How many calls did not end there: they are lost to it, and made again where they may be.
        """
        executor_queue = next(
            executor_queue for executor_queue in self._queues if executor_queue.name == name
        )
        if len(self._queues) == 1:
            raise ValueError(f"{WHERE}: {name} is the last executor; add another first")
        self._queues.remove(executor_queue)
        self._draining.append(executor_queue)
        executor_queue.emptied = asyncio.Event()
        waiting, executor_queue.waiting = executor_queue.waiting, []
        for call in waiting:
            self._place_anew(call)
        try:
            async with asyncio.timeout(deadline_s):
                if executor_queue.sent:
                    await executor_queue.emptied.wait()
        except TimeoutError:
            pass
        left = len(executor_queue.sent)
        self._lose(executor_queue, list(executor_queue.sent), "it was taken out of the pool")
        self._draining.remove(executor_queue)
        return left

    @property
    def in_flight(self) -> int:
        return sum(len(executor_queue) for executor_queue in (*self._queues, *self._draining))

    def health(self) -> list[ExecutorHealth]:
        return [
            ExecutorHealth(
                executor_queue.name,
                executor_queue.state,
                executor_queue.down or "",
                len(executor_queue),
                executor_queue.lives,
            )
            for executor_queue in (*self._queues, *self._draining)
        ]

    def queues(self) -> Mapping[str, ToolQueue]:
        """By tool; of those that have a call."""
        executor_queues = (*self._queues, *self._draining)
        return queues_of(
            [call.waits for executor_queue in executor_queues for call in executor_queue.waiting],
            [
                call.waits
                for executor_queue in executor_queues
                for call in executor_queue.sent.values()
            ],
        )

    def _queue_for(
        self, request: ToolRequest, avoid: _ExecutorQueue | None = None
    ) -> _ExecutorQueue:
        able = self._queues[: self._concurrency(request.option)]  # the others have no part of it
        return min(
            able,
            key=lambda executor_queue: (
                executor_queue.gone,
                bool(executor_queue.down),
                executor_queue is avoid,
                len(executor_queue),
            ),
        )

    def _concurrency(self, option: ToolOption) -> int | None:
        entries = self._catalogue.entries
        entry = entries[option.identity]
        kept = [entry, *(entries[part] for part in parts_of(entry, option) if part in entries)]
        return min((e.limits.concurrency for e in kept if e.limits.concurrency), default=None)

    def _place(self, call: _Call) -> None:
        executor_queue = call.executor_queue
        if executor_queue.gone:
            self._fail(call, str(executor_queue.down))
            return
        if not executor_queue.waiting and not executor_queue.down:
            asyncio.get_running_loop().call_soon(self._send, executor_queue)
        executor_queue.waiting.append(call)

    def _place_anew(self, call: _Call, avoid: _ExecutorQueue | None = None) -> None:
        call.executor_queue = self._queue_for(call.request, avoid)
        self._place(call)

    def _expire(self, call: _Call, deadline_s: float) -> None:
        executor_queue = call.executor_queue
        if executor_queue.take(call_of(call.request)) is None:  # it was never sent
            executor_queue.waiting = [
                other for other in executor_queue.waiting if other is not call
            ]
            call.leaves()
        self._losses.lost(call.request)
        message = f"{call.request.option.identity}: no result within {deadline_s:g} s"
        call.end(Failure(FailureKind.TOOL, WHERE, message))

    def _send(self, executor_queue: _ExecutorQueue) -> None:
        """What waits goes out; where nothing does, results are waited for."""
        if executor_queue.down or not (
            executor_queue.waiting or executor_queue.sent and not executor_queue.exchanges
        ):
            return
        calls, executor_queue.waiting = executor_queue.waiting, []
        requests = [call.leaves() for call in calls]
        executor_queue.sent.update(zip(map(call_of, requests), calls, strict=True))
        self._start(self._exchange(executor_queue, requests))

    async def _exchange(
        self, executor_queue: _ExecutorQueue, requests: Sequence[ToolRequest]
    ) -> None:
        lives = executor_queue.lives
        executor_queue.exchanges += 1
        try:
            for key, result in await executor_queue.line.exchange(requests):
                call = executor_queue.take(key)
                if call is not None:
                    call.end(result)
        except ExecutorLost as error:
            if lives == executor_queue.lives and not executor_queue.down:
                self._lose_executor(executor_queue, str(error))
            return
        except Unsendable as error:
            self._refuse(executor_queue, error.reasons)
            rest = [request for request in requests if call_of(request) not in error.reasons]
            if rest and not executor_queue.down:
                self._start(self._exchange(executor_queue, rest))
        except Exception as error:  # a bug of ours: its calls must not wait for their deadlines
            _log.exception("an exchange with executor %s broke", executor_queue.name)
            keys = [call_of(request) for request in requests] or list(executor_queue.sent)
            self._lose(executor_queue, keys, f"{type(error).__name__}: {error}")
        finally:
            if lives == executor_queue.lives:
                executor_queue.exchanges -= 1
        self._send(executor_queue)

    def _refuse(self, executor_queue: _ExecutorQueue, reasons: Mapping[str, str]) -> None:
        """Ends the calls that cannot be sent."""
        for key, why in reasons.items():
            call = executor_queue.take(key)
            if call is not None:
                self._losses.lost(call.request)
                message = f"{call.request.option.identity}: the call cannot be sent ({why})"
                call.end(Failure(FailureKind.TOOL, WHERE, message))

    def _lose_executor(self, executor_queue: _ExecutorQueue, reason: str) -> None:
        executor_queue.down = reason
        self._lose(executor_queue, list(executor_queue.sent), reason)
        if executor_queue.emptied is None:
            self._start(self._revive(executor_queue))

    def _lose(self, executor_queue: _ExecutorQueue, keys: Sequence[str], reason: str) -> None:
        """Once more elsewhere, where the call may be made twice; else it ends as a failure."""
        for call in filter(None, [executor_queue.take(key) for key in keys]):
            request = call.request
            self._losses.lost(request)
            entry = self._catalogue.entries[request.option.identity]
            again = request.reissues < REISSUES and entry.is_idempotent(request.option.prices)
            if again and not call.future.done():
                call.reissue()
                self._place_anew(call, avoid=executor_queue)
            else:
                self._fail(call, reason)

    async def _revive(self, executor_queue: _ExecutorQueue) -> None:
        waiting: list[_Call] = []
        try:
            await executor_queue.line.revived()
            executor_queue.down, executor_queue.exchanges = None, 0
            executor_queue.lives += 1
        except Exception as error:
            if not isinstance(error, ExecutorLost):
                _log.exception("executor %s cannot be started again", executor_queue.name)
            executor_queue.gone = True
            waiting, executor_queue.waiting = executor_queue.waiting, []
        self._send(executor_queue)
        for call in waiting:
            self._place_anew(call, avoid=executor_queue)

    def _fail(self, call: _Call, reason: str) -> None:
        message = f"{call.request.option.identity}: its executor was lost ({reason})"
        call.end(Failure(FailureKind.INFRASTRUCTURE, WHERE, message))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
