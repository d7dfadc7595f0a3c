"""How the tests of functions call them, and look for what is left of their processes."""

import asyncio
import os
import select
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Caller, Task, ToolOption, ToolRequest
from orchestra_ray.workers.tools.builtin.function import FunctionLimits, FunctionTool

REPOSITORY = Path(__file__).parents[5]
OPTION = ToolOption("function", "function", "tool", "", Prices(), 0.0)
CALLER = Caller(step=1, group_id="g", episode_id="e", turn=0)
TASK = Task("t", "family", "question", {})


@dataclass(frozen=True)
class Shared:
    """A tool that the tests of this module share, and the loop on which it lives."""

    tool: FunctionTool
    runner: asyncio.Runner

    def text(self, **arguments: Any) -> str:
        return self.runner.run(text(self.tool, **arguments))

    def warm(self, **arguments: Any) -> str:
        return self.runner.run(warm(self.tool, **arguments))

    def fault(self, **arguments: Any) -> Fault:
        return self.runner.run(fault(self.tool, **arguments))


def quota(folder: Path, name: str, **limits: Any) -> Iterator[Shared]:
    with asyncio.Runner() as runner:
        tool = FunctionTool(f"mine.tools:{name}", FunctionLimits(**limits), [folder])
        yield Shared(tool, runner)
        runner.run(asyncio.wait_for(tool.close(), 20))


Open = Callable[..., Any]


def asked(arguments: dict[str, Any]) -> ToolRequest:
    return ToolRequest("call", CALLER, OPTION, arguments, TASK, 0, 0)


async def text(tool: FunctionTool, **arguments: Any) -> str:
    return (await asyncio.wait_for(tool.call(asked(arguments)), 60)).text


async def warm(tool: FunctionTool, **arguments: Any) -> str:
    """The answer, also where the start of the process takes longer than the tool's deadline."""
    for _ in range(50):
        try:
            return await text(tool, **arguments)
        except Fault as found:
            assert found.kind is FaultKind.TIMEOUT
    raise AssertionError("no answer")


async def fault(tool: FunctionTool, **arguments: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        await text(tool, **arguments)
    return caught.value


def gone(pid: int, within_s: float = 10.0) -> bool:
    """A zombie counts as gone: whose child it was is not here to reap it."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        ended, _, _ = select.select([process], [], [], within_s)
        return bool(ended)
    finally:
        os.close(process)


class Held:
    """What `hold` in the module of the tests tells of itself: that a call of it is under way."""

    def __init__(self, folder: Path):
        self.path = str(folder / "held")
        os.mkfifo(self.path)

    def pid(self) -> int:
        """Waits for the next call."""
        return int(Path(self.path).read_text().split()[0])

    async def began(self) -> int:
        return await asyncio.wait_for(asyncio.to_thread(self.pid), 60)
