"""What has ended in an executor and waits for its client to take it.

One taker waits at most: the next one sends it away with nothing, so that however often a client
gives calls, one of its exchanges is open and not one a batch. One event loop only.
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
        """All that has ended since; waits for the first, `most_s` at most."""
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
