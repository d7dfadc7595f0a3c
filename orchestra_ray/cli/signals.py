"""SIGTERM as Ctrl-C: what a command started is stopped, and its files are closed."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupted_by_sigterm() -> Iterator[list[int]]:
    """Inside, SIGTERM is a KeyboardInterrupt. Yields the list of those that came.

    Only the main thread can have a handler; in another one nothing changes.
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
