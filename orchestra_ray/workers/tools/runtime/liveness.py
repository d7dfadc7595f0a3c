"""Whether an executor hangs, and whether it may be ended: once, and none that lives.

A client that hears nothing may itself have stood still. So what came in meanwhile is heard, and an
executor hangs only where it leaves several questions in a row unanswered. Each process of it is one
life: all clients that see it hang mean the life that they heard last, and it is ended once.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

PROBES, PROBE_S = 3, 10.0
_ENDED = ""  # no life, until the next one is there

T = TypeVar("T")


async def answer(asked: asyncio.Future[T], deadline_s: float) -> T:
    """The result; TimeoutError where none has come. One that came while this loop stood still has.

    So it differs from `asyncio.timeout`, which fires where both are there.
    """
    try:
        await asyncio.wait({asked}, timeout=deadline_s)
        if not asked.done():
            raise TimeoutError
        return asked.result()
    finally:
        asked.cancel()


async def hangs(ask: Callable[[], asyncio.Future[object]]) -> bool:
    """Whether each question is left unanswered. An error is an answer, and is raised."""
    for _ in range(PROBES):
        try:
            await answer(ask(), PROBE_S)
            return False
        except TimeoutError:
            continue
    return True


class Incarnations:
    """Which life of each executor is there, as far as anybody has told. Pure state."""

    def __init__(self) -> None:
        self._incarnations: dict[str, str] = {}

    def begin(self, executor: str, incarnation: str) -> None:
        self._incarnations[executor] = incarnation

    def end(self, executor: str, incarnation: str) -> bool:
        """Whether this life was there, and was not ended before."""
        if self._incarnations.setdefault(executor, incarnation) != incarnation:
            return False
        self._incarnations[executor] = _ENDED
        return True
