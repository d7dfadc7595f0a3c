"""No process of a function outlives its call, its tool or its parent."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from orchestra_ray.core.faults import Fault, FaultKind

from .hosted import REPOSITORY, Held, Open, fault, gone, text, warm


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_what_a_function_started_ends_with_it(opened: Open, how: str, tmp_path: Path) -> None:
    marker = tmp_path / "pids"

    async def run() -> None:
        async with opened("start_child", deadline_s=2.0) as tool:
            await warm(tool, how="not at all", marker="")
            await fault(tool, how=how, marker=str(marker))

    asyncio.run(run())
    assert all(gone(int(pid)) for pid in marker.read_text().split())


def test_a_closed_tool_says_so(opened: Open) -> None:
    async def run() -> Fault:
        async with opened("count") as tool:
            await text(tool)
        return await fault(tool)

    found = asyncio.run(run())
    assert found.kind is FaultKind.UNAVAILABLE and str(found) == "the tool is closed"


def test_close_ends_processes_that_are_free_busy_or_starting(opened: Open, held: Held) -> None:
    async def run() -> list[int]:
        async with opened("pid") as free, opened("hold", processes=2) as tool:
            pids = [int(await text(free))]
            both = [asyncio.create_task(fault(tool, told=held.path)) for _ in range(2)]
            pids.append(await held.began())  # of one; the other may still be starting
            await asyncio.wait_for(free.close(), 60)
            await asyncio.wait_for(tool.close(), 60)
            kinds = {FaultKind.SERVER_ERROR, FaultKind.UNAVAILABLE}
            assert {one.kind for one in await asyncio.gather(*both)} <= kinds
            assert (await fault(tool, told="")).kind is FaultKind.UNAVAILABLE
            return pids

    before = children()
    pids = asyncio.run(run())
    assert len(set(pids)) == 2
    assert all(gone(pid) for pid in pids) and children() == before


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


PARENT = """
import asyncio, sys
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Caller, Task, ToolOption, ToolRequest
from orchestra_ray.workers.tools.builtin.function import FunctionTool

def ask(arguments):
    option, caller = ToolOption("f", "f", "tool", "", Prices(), 0.0), Caller(1, "g", "e", 0)
    return ToolRequest("c", caller, option, arguments, Task("t", "f", "q", {}), 0, 0)

async def run():
    folder, *told = sys.argv[1:]
    if told:
        await FunctionTool("mine.tools:hold", python_path=[folder]).call(ask({"told": told[0]}))
    tool = FunctionTool("mine.tools:pid", python_path=[folder])
    print((await tool.call(ask({}))).text, flush=True)
    await asyncio.sleep(3600)

asyncio.run(run())
"""


@pytest.mark.parametrize("state", ["free", "busy"])
def test_a_killed_parent_takes_its_processes_along(folder: Path, held: Held, state: str) -> None:
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    told = [held.path] if state == "busy" else []
    command = [sys.executable, "-c", PARENT, str(folder), *told]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
    assert parent.stdout is not None
    pid = held.pid() if told else int(parent.stdout.readline())
    assert not gone(pid, within_s=0)
    parent.send_signal(signal.SIGKILL)
    parent.communicate(timeout=20)
    assert gone(pid)
