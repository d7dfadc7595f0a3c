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
from orchestra_ray.core.records import Offer, ToolRequest, ToolResult
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


class LineLost(Exception):
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
    lane: "_Lane"
    asked_s: float
    placed_s: float  # since when this issue waits to be sent
    expiry: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> tuple[str, float]:
        """Its tool, and how long it has had no result."""
        return self.request.offer.identity, asyncio.get_running_loop().time() - self.asked_s

    def leaves(self) -> ToolRequest:
        """Its request, with how long this issue waited here; a duration, for clocks differ."""
        waited_s = asyncio.get_running_loop().time() - self.placed_s
        self.request = replace(self.request, waited_s=waited_s)
        return self.request

    def reissue(self) -> None:
        self.request = replace(self.request, issue=self.request.issue + 1, waited_s=0.0)
        self.placed_s = asyncio.get_running_loop().time()

    def end(self, result: ToolResult | Failure) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
        if not self.future.done():  # its caller may have given up
            self.future.set_result(result)


@dataclass(slots=True, eq=False)
class _Lane:
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
        self._lanes = [_Lane(name, line) for name, line in lines.items()]
        self._draining: list[_Lane] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, request: ToolRequest) -> ToolResult | Failure:
        """The result, or the failure of the pool; within the entry's deadline and a margin."""
        loop = asyncio.get_running_loop()
        now_s, lane = loop.time(), self._lane_for(request)
        call = _Call(request, loop.create_future(), lane, now_s, now_s)
        deadline_s = self._catalogue.entries[request.offer.identity].limits.deadline_s + MARGIN_S
        call.expiry = loop.call_later(deadline_s, self._expire, call, deadline_s)
        self._place(call)
        return await call.future

    def add(self, name: str, line: Line) -> None:
        """One more executor, the last in the order."""
        self._lanes.append(_Lane(name, line))

    async def drain(self, name: str, deadline_s: float) -> int:
        """Takes an executor out, once it has no call any more or the deadline is over.

        How many calls did not end there: they are lost to it, and made again where they may be.
        """
        lane = next(lane for lane in self._lanes if lane.name == name)
        if len(self._lanes) == 1:
            raise ValueError(f"{WHERE}: {name} is the last executor; add another first")
        self._lanes.remove(lane)
        self._draining.append(lane)
        lane.emptied = asyncio.Event()
        waiting, lane.waiting = lane.waiting, []
        for call in waiting:
            self._place_anew(call)
        try:
            async with asyncio.timeout(deadline_s):
                if lane.sent:
                    await lane.emptied.wait()
        except TimeoutError:
            pass
        left = len(lane.sent)
        self._lose(lane, list(lane.sent), "it was taken out of the pool")
        self._draining.remove(lane)
        return left

    @property
    def in_flight(self) -> int:
        return sum(len(lane) for lane in (*self._lanes, *self._draining))

    def health(self) -> list[ExecutorHealth]:
        return [
            ExecutorHealth(lane.name, lane.state, lane.down or "", len(lane), lane.lives)
            for lane in (*self._lanes, *self._draining)
        ]

    def queues(self) -> Mapping[str, ToolQueue]:
        """By tool; of those that have a call."""
        lanes = (*self._lanes, *self._draining)
        return queues_of(
            [call.waits for lane in lanes for call in lane.waiting],
            [call.waits for lane in lanes for call in lane.sent.values()],
        )

    def _lane_for(self, request: ToolRequest, avoid: _Lane | None = None) -> _Lane:
        able = self._lanes[: self._concurrency(request.offer)]  # the others have no part of it
        return min(able, key=lambda lane: (lane.gone, bool(lane.down), lane is avoid, len(lane)))

    def _concurrency(self, offer: Offer) -> int | None:
        entries = self._catalogue.entries
        entry = entries[offer.identity]
        kept = [entry, *(entries[part] for part in parts_of(entry, offer) if part in entries)]
        return min((e.limits.concurrency for e in kept if e.limits.concurrency), default=None)

    def _place(self, call: _Call) -> None:
        lane = call.lane
        if lane.gone:
            self._fail(call, str(lane.down))
            return
        if not lane.waiting and not lane.down:
            asyncio.get_running_loop().call_soon(self._send, lane)
        lane.waiting.append(call)

    def _place_anew(self, call: _Call, avoid: _Lane | None = None) -> None:
        call.lane = self._lane_for(call.request, avoid)
        self._place(call)

    def _expire(self, call: _Call, deadline_s: float) -> None:
        lane = call.lane
        if lane.take(call_of(call.request)) is None:  # it was never sent
            lane.waiting = [other for other in lane.waiting if other is not call]
            call.leaves()
        self._losses.lost(call.request)
        message = f"{call.request.offer.identity}: no result within {deadline_s:g} s"
        call.end(Failure(FailureKind.TOOL, WHERE, message))

    def _send(self, lane: _Lane) -> None:
        """What waits goes out; where nothing does, results are waited for."""
        if lane.down or not (lane.waiting or lane.sent and not lane.exchanges):
            return
        calls, lane.waiting = lane.waiting, []
        requests = [call.leaves() for call in calls]
        lane.sent.update(zip(map(call_of, requests), calls, strict=True))
        self._start(self._exchange(lane, requests))

    async def _exchange(self, lane: _Lane, requests: Sequence[ToolRequest]) -> None:
        lives = lane.lives
        lane.exchanges += 1
        try:
            for key, result in await lane.line.exchange(requests):
                call = lane.take(key)
                if call is not None:
                    call.end(result)
        except LineLost as error:
            if lives == lane.lives and not lane.down:
                self._lose_executor(lane, str(error))
            return
        except Unsendable as error:
            self._refuse(lane, error.reasons)
            rest = [request for request in requests if call_of(request) not in error.reasons]
            if rest and not lane.down:
                self._start(self._exchange(lane, rest))
        except Exception as error:  # a bug of ours: its calls must not wait for their deadlines
            _log.exception("an exchange with executor %s broke", lane.name)
            keys = [call_of(request) for request in requests] or list(lane.sent)
            self._lose(lane, keys, f"{type(error).__name__}: {error}")
        finally:
            if lives == lane.lives:
                lane.exchanges -= 1
        self._send(lane)

    def _refuse(self, lane: _Lane, reasons: Mapping[str, str]) -> None:
        """Ends the calls that cannot be sent."""
        for key, why in reasons.items():
            call = lane.take(key)
            if call is not None:
                self._losses.lost(call.request)
                message = f"{call.request.offer.identity}: the call cannot be sent ({why})"
                call.end(Failure(FailureKind.TOOL, WHERE, message))

    def _lose_executor(self, lane: _Lane, reason: str) -> None:
        lane.down = reason
        self._lose(lane, list(lane.sent), reason)
        if lane.emptied is None:
            self._start(self._revive(lane))

    def _lose(self, lane: _Lane, keys: Sequence[str], reason: str) -> None:
        """Once more elsewhere, where the call may be made twice; else it ends as a failure."""
        for call in filter(None, [lane.take(key) for key in keys]):
            request = call.request
            self._losses.lost(request)
            entry = self._catalogue.entries[request.offer.identity]
            again = request.issue < REISSUES and entry.is_idempotent(request.offer.prices)
            if again and not call.future.done():
                call.reissue()
                self._place_anew(call, avoid=lane)
            else:
                self._fail(call, reason)

    async def _revive(self, lane: _Lane) -> None:
        waiting: list[_Call] = []
        try:
            await lane.line.revived()
            lane.down, lane.exchanges = None, 0
            lane.lives += 1
        except Exception as error:
            if not isinstance(error, LineLost):
                _log.exception("executor %s cannot be started again", lane.name)
            lane.gone = True
            waiting, lane.waiting = lane.waiting, []
        self._send(lane)
        for call in waiting:
            self._place_anew(call, avoid=lane)

    def _fail(self, call: _Call, reason: str) -> None:
        message = f"{call.request.offer.identity}: its executor was lost ({reason})"
        call.end(Failure(FailureKind.INFRASTRUCTURE, WHERE, message))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)
