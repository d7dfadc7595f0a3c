"""Clients of the spend accounts; one sends the items of an event-loop iteration as one batch.

Every reservation gets an answer, and every settlement is delivered or counted in `unsettled`, even
if the transport fails. An item that cannot be serialized does not affect the others: its
reservation is refused or its settlement counted, and the rest of its batch is sent.

Independent of Ray: a `SpendTransport` carries the bytes. All state belongs to one event loop.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, Protocol

from orchestra_ray.core.faults import Failure, Fault, FaultKind
from orchestra_ray.core.records import Lost, Reservation, Settlement, ToolRequest
from orchestra_ray.core.serialization import pack_items

HELD_S = 4.0  # at most, of a result for its settlement; with CASSETTE_S below the pool's margin

_log = logging.getLogger(__name__)


class SpendUnreachable(Exception):
    """The spend actor is dead and will not be restarted."""


class SpendTransport(Protocol):
    """The way to the spend accounts. Any error but `SpendUnreachable` may be transient."""

    async def reserve(self, packed: bytes) -> list[str | None]:
        """Takes packed `Reservation`s; returns None for each granted one, else the refusal."""
        ...

    async def settle(self, packed: bytes) -> None:
        """Takes packed `Settlement`s, `Lost`s and `Failure`s."""
        ...


class BudgetClient(Protocol):
    """Reserves the cost of attempts."""

    @property
    def count_calls(self) -> bool:
        """Whether free attempts are reserved too, for the limits on calls."""
        ...

    async def reserve(self, asked: Reservation) -> str | None:
        """Returns None if granted, else the reason for the refusal."""
        ...


class SpendClient(BudgetClient, Protocol):
    """Reserves attempts, and enters calls that have ended."""

    def enter(self, settlement: Settlement) -> asyncio.Event | None:
        """Returns an event that is set once it is entered; None if it already is."""
        ...

    def report(self, failure: Failure) -> None:
        """Adds a failure of no particular call to the next `StepTotals`."""
        ...


class BatchedSpendClient:
    """`unsettled` counts the items that were not delivered after all tries."""

    def __init__(self, transport: SpendTransport, count_calls: bool, deadline_s: float, tries: int):
        self._transport, self._deadline_s, self._tries = transport, deadline_s, tries
        self.count_calls = count_calls
        self.unsettled = 0
        self._asked: list[tuple[Reservation, asyncio.Future[str | None]]] = []
        self._ended: list[Settlement | Lost | Failure] = []
        self._entered = asyncio.Event()  # set when `_ended` is delivered or given up
        self._tasks: set[asyncio.Task[None]] = set()

    async def reserve(self, asked: Reservation) -> str | None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str | None] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._send_reservations)
        self._asked.append((asked, future))
        return await future

    def enter(self, settlement: Settlement) -> asyncio.Event:
        """Returns an event, set on delivery or failure of it, and after `HELD_S` at the latest."""
        return self._enter(settlement)

    def lost(self, request: ToolRequest) -> None:
        """Enters a lost call, without the fields that are not needed: they may be unpackable."""
        self._enter(Lost(replace(request, arguments={}, found=(), messages=(), functions=())))

    def report(self, failure: Failure) -> None:
        self._enter(failure)

    async def drain(self) -> int:
        """Waits until everything entered so far is delivered or given up; returns `unsettled`."""
        self._send_settlements()
        if self._tasks:
            await asyncio.wait(self._tasks)  # each ends within a deadline
        return self.unsettled

    def _enter(self, ended: Settlement | Lost | Failure) -> asyncio.Event:
        if not self._ended:
            self._entered = asyncio.Event()
            asyncio.get_running_loop().call_soon(self._send_settlements)
        self._ended.append(ended)
        return self._entered

    def _send_reservations(self) -> None:
        asked, self._asked = self._asked, []
        self._start(self._reserve(asked))

    def _send_settlements(self) -> None:
        ended, self._ended = self._ended, []
        if ended:
            self._start(self._deliver(ended, self._entered))

    async def _deliver(
        self, ended: Sequence[Settlement | Lost | Failure], entered: asyncio.Event
    ) -> None:
        held = asyncio.get_running_loop().call_later(HELD_S, entered.set)
        unsettled = len(ended)
        try:
            packed, bad = pack_items(ended)
            for why in bad.values():
                _log.warning("a settlement cannot be sent: %s", why)
            if len(bad) == len(ended) or await self._send_packed(packed):
                unsettled = len(bad)
        finally:
            self.unsettled += unsettled
            held.cancel()
            entered.set()

    async def _send_packed(self, packed: bytes) -> bool:
        """Retries until an answer comes; safe, since entering a call is idempotent."""
        for _ in range(self._tries):
            try:
                async with asyncio.timeout(self._deadline_s):
                    await self._transport.settle(packed)
                return True
            except SpendUnreachable:
                break  # the run ends with the spend actor
            except Exception as error:  # of the transport; losses are counted
                _log.warning("a batch of settlements: %s", type(error).__name__)
        return False

    async def _reserve(self, asked: list[tuple[Reservation, asyncio.Future[str | None]]]) -> None:
        packed, bad = pack_items([one for one, _ in asked])
        for index, why in bad.items():
            _refuse([asked[index][1]], f"the reservation cannot be sent ({why})")
        futures = [future for index, (_, future) in enumerate(asked) if index not in bad]
        why = "the reservation was cancelled"
        try:
            async with asyncio.timeout(self._deadline_s):
                answers = await self._transport.reserve(packed) if futures else []
            for future, refusal in zip(futures, answers, strict=True):
                if not future.done():
                    future.set_result(refusal)
        except Exception as error:  # of the transport; raised in each of the callers
            why = f"the spend actor does not answer ({type(error).__name__})"
        finally:
            _refuse(futures, why)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)


def _refuse(futures: Sequence[asyncio.Future[str | None]], why: str) -> None:
    """Raises a fault in each caller that has no answer yet."""
    for future in futures:
        if not future.done():
            future.set_exception(Fault(FaultKind.UNAVAILABLE, why))
