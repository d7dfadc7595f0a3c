"""Fixtures of the attacks: a sandbox with tight limits, and checks of the host afterwards."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psutil
import pytest

from orchestra_ray.sandbox.command import SandboxLimits
from orchestra_ray.sandbox.run import Outcome, Sandbox

from ...leftovers import descriptors, processes

TIGHT = SandboxLimits(
    wall_s=60.0,
    cpu_s=2,
    memory_mib=256,
    processes=16,
    open_files=32,
    scratch_mib=16,
    scratch_files=500,
    output_mib=1,
)
# `refused` gives the errno of a call that fails; `libc` and `kernel_call` go past Python's checks.
PRELUDE = """
import ctypes, errno, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
def kernel_call(number, *arguments):
    whole = (ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)
    if libc.syscall(ctypes.c_long(number), *whole) == -1:
        raise OSError(ctypes.get_errno(), "")
"""


@pytest.fixture(scope="session")
def sandboxes(sandbox_here: None) -> Callable[[SandboxLimits], Sandbox]:
    made: dict[SandboxLimits, Sandbox] = {}

    def sandbox(limits: SandboxLimits) -> Sandbox:
        return made.get(limits) or made.setdefault(limits, Sandbox(limits))

    return sandbox


@pytest.fixture
def attacks(
    sandboxes: Callable[[SandboxLimits], Sandbox],
) -> Iterator[Callable[..., list[Outcome]]]:
    """Runs programs beside each other under TIGHT limits, some replaced.

    No process and no descriptor may be left of them.
    """
    held, children = descriptors(), processes()

    def run(*programs: str, **limits: Any) -> list[Outcome]:
        sandbox, places = sandboxes(replace(TIGHT, **limits)), asyncio.Semaphore(4)

        async def run_one(program: str) -> Outcome:
            async with places:
                return await sandbox.run(PRELUDE + program)

        async def run_all() -> list[Outcome]:
            return await asyncio.gather(*map(run_one, programs))

        return asyncio.run(run_all())

    yield run
    assert not processes() - children
    assert not descriptors() - held


@pytest.fixture
def attack(attacks: Callable[..., list[Outcome]]) -> Callable[..., Outcome]:
    """Runs one program in the same way."""
    return lambda program, **limits: attacks(program, **limits)[0]


@pytest.fixture
def mark() -> str:
    """A word that a program puts into command lines, to be looked for on the host."""
    return f"marked-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture
def bearers(mark: str) -> Callable[[], list[psutil.Process]]:
    """The processes of the whole host that have the mark among their arguments."""
    every = psutil.process_iter
    return lambda: [p for p in every(["cmdline"]) if mark in (p.info["cmdline"] or ())]
