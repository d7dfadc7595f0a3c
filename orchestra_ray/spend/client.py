"""The client's side of the books: what is asked or entered in one turn of the loop goes together.

Every reservation gets an answer and every posting is delivered or counted as unposted, whatever the
way to the books does. An item that cannot be packed fails alone: its reservation is refused, or its
posting counted, and the rest of its batch goes on.

No Ray here: a `Door` carries bytes to the books. All state is touched by one event loop only.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, Protocol

from orchestra_ray.core.faults import Failure, Fault, FaultKind
from orchestra_ray.core.records import Lost, Reservation, Settlement, ToolRequest
from orchestra_ray.core.serialization import pack_items

HELD_S = 4.0  # a result, by its posting at most; with `CASSETTE_S` less than the pool's margin

_log = logging.getLogger(__name__)


class SpendUnreachable(Exception):
    """The books will never answer again."""


class Door(Protocol):
    """To the books. What it raises besides `BooksGone` may be over at the next try."""

    async def reserve(self, asked: bytes) -> list[str | None]:
        """Of packed `Reservation`s: None for each that is granted, else why not."""
        ...

    async def post(self, ended: bytes) -> None:
        """Packed `Posting`s, `Lost`s and `Failure`s."""
        ...


class BatchedSpendClient:
    """`unposted` counts what the books did not take in after all tries."""

    def __init__(self, door: Door, count_calls: bool, deadline_s: float, tries: int):
        self._door, self._deadline_s, self._tries = door, deadline_s, tries
        self.count_calls = count_calls
        self.unposted = 0
        self._asked: list[tuple[Reservation, asyncio.Future[str | None]]] = []
        self._ended: list[Settlement | Lost | Failure] = []
        self._entered = asyncio.Event()  # of those
        self._tasks: set[asyncio.Task[None]] = set()

    async def reserve(self, asked: Reservation) -> str | None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str | None] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._send)
        self._asked.append((asked, future))
        return await future

    def enter(self, settlement: Settlement) -> asyncio.Event:
        """What is set once the books have it or it is given up; after `HELD_S` at the latest."""
        return self._enter(settlement)

    def lost(self, request: ToolRequest) -> None:
        """Without what the books do not read: it may be what could not be sent."""
        self._enter(Lost(replace(request, arguments={}, found=(), messages=(), functions=())))

    def report(self, failure: Failure) -> None:
        self._enter(failure)

    async def drain(self) -> int:
        """Returns once all that was entered before is posted, or given up; `unposted`."""
        self._post()
        if self._tasks:
            await asyncio.wait(self._tasks)  # each of them ends within a deadline
        return self.unposted

    def _enter(self, ended: Settlement | Lost | Failure) -> asyncio.Event:
        if not self._ended:
            self._entered = asyncio.Event()
            asyncio.get_running_loop().call_soon(self._post)
        self._ended.append(ended)
        return self._entered

    def _send(self) -> None:
        asked, self._asked = self._asked, []
        self._start(self._reserve(asked))

    def _post(self) -> None:
        ended, self._ended = self._ended, []
        if ended:
            self._start(self._deliver(ended, self._entered))

    async def _deliver(
        self, ended: Sequence[Settlement | Lost | Failure], entered: asyncio.Event
    ) -> None:
        held = asyncio.get_running_loop().call_later(HELD_S, entered.set)
        unposted = len(ended)
        try:
            packed, bad = pack_items(ended)
            for why in bad.values():
                _log.warning("a posting cannot be sent: %s", why)
            if len(bad) == len(ended) or await self._post_all(packed):
                unposted = len(bad)
        finally:
            self.unposted += unposted
            held.cancel()
            entered.set()

    async def _post_all(self, packed: bytes) -> bool:
        """Sent again where no answer came: the books enter a call once, however often it comes."""
        for _ in range(self._tries):
            try:
                async with asyncio.timeout(self._deadline_s):
                    await self._door.post(packed)
                return True
            except SpendUnreachable:
                break  # and with them the run
            except Exception as error:  # of the way there; what is lost is counted
                _log.warning("a batch of postings: %s", type(error).__name__)
        return False

    async def _reserve(self, asked: list[tuple[Reservation, asyncio.Future[str | None]]]) -> None:
        packed, bad = pack_items([one for one, _ in asked])
        for index, why in bad.items():
            _refuse([asked[index][1]], f"the reservation cannot be sent ({why})")
        futures = [future for index, (_, future) in enumerate(asked) if index not in bad]
        why = "the spend guard was not heard"
        try:
            async with asyncio.timeout(self._deadline_s):
                answers = await self._door.reserve(packed) if futures else []
            for future, refusal in zip(futures, answers, strict=True):
                if not future.done():
                    future.set_result(refusal)
        except Exception as error:  # of the way there; each of the callers is told
            why = f"the spend guard does not answer ({type(error).__name__})"
        finally:
            _refuse(futures, why)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._tasks.discard)


def _refuse(futures: Sequence[asyncio.Future[str | None]], why: str) -> None:
    """Those that have no answer yet."""
    for future in futures:
        if not future.done():
            future.set_exception(Fault(FaultKind.UNAVAILABLE, why))
