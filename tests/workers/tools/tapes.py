"""What the tests of cassettes ask, and of whom."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from orchestra_ray.core.faults import Fault
from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.records import Caller, Task, ToolOption, ToolRequest
from orchestra_ray.workers.tools.base import Reply, Tool
from orchestra_ray.workers.tools.replay.cassette import Cassette, Mode, key_of

MODEL = ToolOption("expert 1", "big-model", "model", "good", Prices(1_000, 500, 2_000), 1.0)
SEARCH = ToolOption("search", "local-search", "tool", "finds", Prices(call_nanousd=500), 0.1)
TASK = Task("t1", "arithmetic", "What is 2 + 2?", {"answer": "4"})
CALLER = Caller(step=1, group_id="g", episode_id="e", turn=0)


def ask(
    seed: int = 1, attempt: int = 0, option: ToolOption = MODEL, **arguments: Any
) -> ToolRequest:
    return ToolRequest("call", CALLER, option, arguments, TASK, seed, attempt)


class Oracle:
    """A tool that never says the same thing twice, or fails on demand."""

    def __init__(self, *outcomes: Reply | Fault):
        self.calls = 0
        self._outcomes = outcomes

    async def call(self, request: ToolRequest) -> Reply:
        self.calls += 1
        if not self._outcomes:
            usage = Usage(input_tokens=self.calls, output_tokens=7)
            return Reply(f"answer {self.calls}", usage, 0.25 * self.calls)
        outcome = self._outcomes[(self.calls - 1) % len(self._outcomes)]
        if isinstance(outcome, Fault):
            raise outcome
        return outcome

    async def close(self) -> None:
        pass


async def played(cassette: Cassette, tool: Tool, request: ToolRequest, version: str = "1") -> Reply:
    return await cassette.play(key_of(request, version), lambda: tool.call(request))


def seen(
    path: Path,
    mode: Mode,
    tool: Tool,
    requests: list[ToolRequest],
    version: str = "1",
    **options: Any,
) -> list[Reply | Fault]:
    """What a policy sees of `requests`, one after the other, with one opening of the cassette."""

    async def run() -> list[Reply | Fault]:
        outcomes: list[Reply | Fault] = []
        async with Cassette(path, mode, **options) as cassette:
            for request in requests:
                try:
                    outcomes.append(await played(cassette, tool, request, version))
                except Fault as fault:
                    outcomes.append(fault)
        return outcomes

    return asyncio.run(run())


def text(outcome: Reply | Fault) -> str:
    return outcome.text if isinstance(outcome, Reply) else str(outcome)


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM calls").fetchone()[0]


def in_cassette(
    path: Path, mode: Mode, work: Callable[[Cassette], Awaitable[Any]]
) -> tuple[Any, Cassette]:
    async def run() -> tuple[Any, Cassette]:
        async with Cassette(path, mode) as cassette:
            return await work(cassette), cassette

    return asyncio.run(run())


def damage_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : len(content)] = b"\x5a" * (len(content) - 4096)
    path.write_bytes(content)
