"""The list of a server's tools, of which each is read by itself.

The SDK refuses a whole page for one tool against the protocol. `ReadablePages` stands between a
transport and the SDK's session: it mends what has one meaning (a schema without `type`, `null` for
nothing, as Go's encoder writes it), takes out the tools that cannot be read, and keeps why.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from mcp import Client, types
from mcp.shared.message import SessionMessage
from mcp.types import methods
from pydantic import ValidationError

PAGES_MAX = 100
METHOD = "tools/list"
OLDEST_SURE = "2025-11-25"  # what the SDK takes where no version is agreed on yet


@dataclass(frozen=True, slots=True)
class McpListing:
    """One tool as its server describes it; the schema is JSON Schema of its arguments.

    `problem` says in a line why it cannot be read; the rest is then empty.
    """

    name: str
    description: str
    input_schema: Mapping[str, Any]
    problem: str | None = None


class ReadablePages:
    """Takes unreadable tools out of the pages that pass, for one session."""

    def __init__(self) -> None:
        self.version: Callable[[], str | None] = lambda: None  # of the protocol
        self.problems: dict[str, str] = {}  # by tool, since the last `forget`
        self.names: set[str] = set()

    def forget(self) -> None:
        self.problems, self.names = {}, set()

    @asynccontextmanager
    async def between(
        self, transport: AbstractAsyncContextManager[tuple[Any, Any]]
    ) -> AsyncIterator[tuple[Any, Any]]:
        """The transport, with pages that can be read."""
        async with transport as (incoming, outgoing):
            yield _Mended(incoming, self._mend), outgoing

    def _mend(self, item: Any) -> Any:
        message = item.message if isinstance(item, SessionMessage) else None
        if not isinstance(message, types.JSONRPCResponse):
            return item
        tools = message.result.get("tools")
        if isinstance(tools, list):
            page = {**message.result, "tools": self._named(tools)}
            message.result = self._readable(page)
        return item

    def _named(self, tools: list[Any]) -> list[dict[str, Any]]:
        named = []
        for number, tool in enumerate(tools, 1):
            if isinstance(tool, dict) and isinstance(tool.get("name"), str):
                self.names.add(tool["name"])
                named.append(_with_readable_schemas(tool))
            else:
                self.problems[f"tool number {number}"] = "it has no name"
        return named

    def _readable(self, page: dict[str, Any]) -> dict[str, Any]:
        """Without the tools that the SDK would refuse the page for."""
        try:
            methods.parse_server_result(METHOD, self.version() or OLDEST_SURE, page)
        except ValidationError as error:
            bad: dict[int, str] = {}
            for one in error.errors():
                if one["loc"][:1] == ("tools",) and len(one["loc"]) > 1:
                    where = ".".join(str(part) for part in one["loc"][2:])
                    bad.setdefault(int(one["loc"][1]), f"its {where}: {one['msg']}")
            for number, why in bad.items():
                self.problems[page["tools"][number]["name"]] = why
            kept = [tool for number, tool in enumerate(page["tools"]) if number not in bad]
            return {**page, "tools": kept}
        except (KeyError, ValueError):  # a version that is newer than the SDK's tables
            pass
        return page


class _Mended:
    """A stream whose items go through `mend`."""

    def __init__(self, incoming: Any, mend: Callable[[Any], Any]):
        self._incoming, self._mend = incoming, mend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._incoming, name)

    async def receive(self) -> Any:
        return self._mend(await self._incoming.receive())

    def __aiter__(self) -> "_Mended":
        return self

    async def __anext__(self) -> Any:
        return self._mend(await self._incoming.__anext__())

    async def __aenter__(self) -> "_Mended":
        await self._incoming.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._incoming.__aexit__(*error)


async def list_pages(client: Client) -> Mapping[str, types.Tool]:
    """All tools that can be read, asked of the server and no cache."""
    tools: dict[str, types.Tool] = {}
    cursor = None
    for _ in range(PAGES_MAX):
        page = await client.list_tools(cursor=cursor, cache_mode="bypass")
        tools |= {tool.name: tool for tool in page.tools}
        cursor = page.next_cursor
        if cursor is None:
            break
    return tools


def _with_readable_schemas(tool: dict[str, Any]) -> dict[str, Any]:
    mended = {key: value for key, value in tool.items() if value is not None}
    for key in ("inputSchema", "outputSchema"):
        if isinstance(mended.get(key), dict):
            mended[key] = _of_an_object(mended[key])
    return mended


def _of_an_object(schema: dict[str, Any]) -> dict[str, Any]:
    """The protocol wants `type: object` at the root, which others imply."""
    mended = {
        key: value
        for key, value in schema.items()
        if value is not None or key not in ("type", "properties", "required", "$defs")
    }
    stated = mended.get("type", "object")
    if isinstance(stated, list) and "object" in stated:
        stated = "object"
    return {**mended, "type": stated}
