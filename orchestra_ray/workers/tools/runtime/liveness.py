"""Detects executors that hang.

A client without an answer may itself have been blocked. So answers that arrived meanwhile count,
and an executor hangs only if it leaves several probes in a row unanswered.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar

PROBES, PROBE_S = 3, 10.0

T = TypeVar("T")


async def answer(asked: asyncio.Future[T], deadline_s: float) -> T:
    """Returns the result, or raises TimeoutError if there is none.

    Unlike with `asyncio.timeout`, a result that arrived while this loop was blocked is returned
    even if the deadline is over.
    """
    try:
        await asyncio.wait({asked}, timeout=deadline_s)
        if not asked.done():
            raise TimeoutError
        return asked.result()
    finally:
        asked.cancel()


async def hangs(ask: Callable[[], asyncio.Future[None]]) -> bool:
    """Returns whether all probes are left unanswered. An error is an answer, and is raised."""
    for _ in range(PROBES):
        try:
            await answer(ask(), PROBE_S)
            return False
        except TimeoutError:
            continue
    return True
