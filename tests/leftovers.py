"""What this process holds, to see that nothing more is held after a test.

Whole tests run beside a Ray cluster of the session, whose processes and connections may end
meanwhile: what is gone is not left over. A descriptor is its number with what it is open on, so
that one that is left over is seen also where its number was free again.
"""

import os
from contextlib import suppress

import psutil


def processes() -> set[psutil.Process]:
    """All below this one."""
    return set(psutil.Process().children(recursive=True))


def descriptors() -> set[tuple[str, str]]:
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the listing's own
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found
