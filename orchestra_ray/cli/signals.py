"""SIGTERM handled as Ctrl-C, so that a command stops its processes and closes its files."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupted_by_sigterm() -> Iterator[list[int]]:
    """Context in which SIGTERM raises KeyboardInterrupt. Yields the list of signals received.

    Only the main thread can have a handler; in any other thread nothing changes.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def interrupt(number: int, frame: object) -> None:
        came.append(number)
        # Not by way of SIGINT, which shells let background processes ignore.
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)
