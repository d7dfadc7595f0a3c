"""Limits the concurrent attempts of a tool, and the attempts that start per second.

First come, first served. Both limits may change at any time: running attempts continue, and no
other is admitted before the new limits allow it. All state is touched by one event loop only.
"""

import asyncio
import math
from collections import deque
from contextlib import suppress


class Limiter:
    """Async context manager; None means unlimited."""

    def __init__(self, most: int | None = None, per_s: float | None = None):
        self.inside = 0
        self.most, self.per_s = most, per_s
        self._last_s = -math.inf  # when the last one was admitted
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._fits = asyncio.Event()
        self._fits.set()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def limit(self, most: int | None, per_s: float | None) -> None:
        self.most, self.per_s = most, per_s
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._is_over():
            self._fits.clear()
        else:
            self._fits.set()
        self._admit()

    def count_start(self) -> None:
        """Counts as an admission at this moment: the next one waits until the rate allows it."""
        self._last_s = asyncio.get_running_loop().time()

    async def kept(self) -> None:
        """Returns when no more are inside than the limit allows."""
        await self._fits.wait()

    async def __aenter__(self) -> None:
        if self._waiting or not self._is_open() or self._opens_in_s() > 0:
            await self._wait()
        else:
            self._enter()

    async def __aexit__(self, *_: object) -> None:
        self._leave()

    async def _wait(self) -> None:
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(admitted)
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.cancelled():
                with suppress(ValueError):
                    self._waiting.remove(admitted)
            else:  # admitted and cancelled at the same time
                self._leave()
            raise

    def _admit(self) -> None:
        while self._waiting and self._is_open():
            opens_in_s = self._opens_in_s()
            if opens_in_s > 0:
                if self._timer is None:
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(opens_in_s, self._tick)
                return
            admitted = self._waiting.popleft()
            if not admitted.done():
                self._enter()
                admitted.set_result(None)

    def _tick(self) -> None:
        self._timer = None
        self._admit()

    def _enter(self) -> None:
        self.inside += 1
        if self.per_s is not None:
            self.count_start()

    def _leave(self) -> None:
        self.inside -= 1
        if not self._is_over():
            self._fits.set()
        self._admit()

    def _is_open(self) -> bool:
        return self.most is None or self.inside < self.most

    def _is_over(self) -> bool:
        return self.most is not None and self.inside > self.most

    def _opens_in_s(self) -> float:
        if self.per_s is None:
            return 0.0
        return self._last_s + 1 / self.per_s - asyncio.get_running_loop().time()
