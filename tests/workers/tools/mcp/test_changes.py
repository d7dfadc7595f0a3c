"""Tools that change during a session, with the notifications of MCP 2025 and MCP 2026."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.workers.tools.mcp.server import McpServer, text_of
from orchestra_ray.workers.tools.mcp.session import McpSettings

SERVER = str(Path(__file__).parents[1] / "mcp_server.py")
RAW_SERVER = str(Path(__file__).parents[1] / "raw_mcp_server.py")
OBJECT = {"inputSchema": {"type": "object"}}


def run(command: tuple[str, ...], use: Callable[[McpServer], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        server = McpServer(McpSettings("clerk", command, deadline_s=30))
        try:
            await asyncio.wait_for(use(server), 60)
        finally:
            await server.close()

    asyncio.run(main())


def names(server: McpServer) -> set[str]:
    return set(server._session.names) if server._session else set()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


async def says(server: McpServer, tool: str, /, **arguments: Any) -> str:
    return text_of(await server.call(tool, arguments))


def test_new_tools_can_be_called_and_those_that_went_are_unavailable() -> None:
    async def use(server: McpServer) -> None:
        in_flight = asyncio.create_task(says(server, "meet", place="here", count=2))
        await says(server, "watch", place="here", count=1)
        await says(server, "teach", name="spell")
        assert await says(server, "spell", number=3) == "spell 3"
        await says(server, "forget", name="spell")
        await until(lambda: "spell" not in names(server))  # without a call
        with pytest.raises(Fault, match="clerk no longer has the tool spell") as caught:
            await server.call("spell", {"number": 3})
        assert caught.value.kind is FaultKind.UNAVAILABLE
        await says(server, "teach", name="count")
        await until(lambda: "count" in names(server))
        assert await says(server, "meet", place="here", count=2) == await in_flight == "done"

    run((sys.executable, SERVER), use)


def test_the_notification_of_the_older_protocol_is_handled(tmp_path: Path) -> None:
    def tool(text: str, **more: Any) -> dict[str, Any]:
        result = {"content": [{"type": "text", "text": text}]}
        return {"listing": OBJECT, "result": result} | more

    strict = {"type": "object", "required": ["n"]}
    second = {"kept": tool("2", listing={**OBJECT, "outputSchema": strict}), "new": tool("new")}
    first = {"old": tool("old"), "kept": tool("1"), "change": tool("changed", becomes=second)}
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(first))

    async def use(server: McpServer) -> None:
        assert await says(server, "old") == "old" and await says(server, "kept") == "1"
        assert await says(server, "change") == "changed"
        await until(lambda: names(server) == {"kept", "new"})
        assert await says(server, "new") == "new"
        with pytest.raises(Fault, match="no longer has the tool old"):
            await server.call("old", {})
        with pytest.raises(Fault, match="its schema promises one"):  # of results, since the change
            await server.call("kept", {})

    run((sys.executable, RAW_SERVER, str(path)), use)


def test_a_tool_that_never_existed_is_distinguished() -> None:
    async def use(server: McpServer) -> None:
        with pytest.raises(Fault, match="clerk has no tool spell"):
            await server.call("spell", {})

    run((sys.executable, SERVER), use)
