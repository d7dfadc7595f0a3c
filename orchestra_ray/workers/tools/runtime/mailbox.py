"""Holds the ended calls of an executor until their client takes them.

At most one taker waits: the next one makes it return empty, so that a client that sends many
batches has one open exchange instead of one per batch. All state is touched by one event loop only.
"""

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    def __init__(self) -> None:
        self._ended: list[T] = []
        self._taker: asyncio.Future[None] | None = None

    def put(self, one: T) -> None:
        self._ended.append(one)
        self._wake()

    async def take(self, most_s: float) -> list[T]:
        """Returns the calls that ended since the last one; waits up to `most_s` for the first."""
        self._wake()
        if not self._ended:
            loop = asyncio.get_running_loop()
            self._taker = loop.create_future()
            timer = loop.call_later(most_s, _resolve, self._taker)
            try:
                await self._taker
            finally:
                timer.cancel()
        ended, self._ended = self._ended, []
        return ended

    def _wake(self) -> None:
        if self._taker is not None:
            _resolve(self._taker)


def _resolve(taker: asyncio.Future[None]) -> None:
    if not taker.done():
        taker.set_result(None)
