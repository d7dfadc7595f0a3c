"""Listing a server's tools, with each tool validated separately.

The SDK rejects a whole page for one tool that violates the protocol. `ReadablePages` sits between a
transport and the SDK's session: it repairs unambiguous violations (a schema without `type`, `null`
for an absent field, as Go's encoder writes it), removes the unreadable tools, and records why.
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
DEFAULT_VERSION = "2025-11-25"  # the SDK's, before a version is negotiated


@dataclass(frozen=True, slots=True)
class McpListing:
    """A tool as its server describes it, with the JSON Schema of its arguments.

    problem: one line, why the tool is unreadable; description and schema are then empty.
    """

    name: str
    description: str
    input_schema: Mapping[str, Any]
    problem: str | None = None


class ReadablePages:
    """Removes unreadable tools from the pages of one session."""

    def __init__(self) -> None:
        self.version: Callable[[], str | None] = lambda: None  # of the protocol
        self.problems: dict[str, str] = {}  # by tool, since the last `reset`
        self.names: set[str] = set()

    def reset(self) -> None:
        self.problems, self.names = {}, set()

    @asynccontextmanager
    async def between(
        self, transport: AbstractAsyncContextManager[tuple[Any, Any]]
    ) -> AsyncIterator[tuple[Any, Any]]:
        """Async context manager: opens `transport` and filters what it receives."""
        async with transport as (incoming, outgoing):
            yield _MappedStream(incoming, self._repair), outgoing

    def _repair(self, item: Any) -> Any:
        message = item.message if isinstance(item, SessionMessage) else None
        if not isinstance(message, types.JSONRPCResponse):
            return item
        tools = message.result.get("tools")
        if isinstance(tools, list):
            page = {**message.result, "tools": self._with_names(tools)}
            message.result = self._without_unreadable(page)
        return item

    def _with_names(self, tools: list[Any]) -> list[dict[str, Any]]:
        named = []
        for number, tool in enumerate(tools, 1):
            if isinstance(tool, dict) and isinstance(tool.get("name"), str):
                self.names.add(tool["name"])
                named.append(_with_readable_schemas(tool))
            else:
                self.problems[f"tool number {number}"] = "it has no name"
        return named

    def _without_unreadable(self, page: dict[str, Any]) -> dict[str, Any]:
        """Returns the page without the tools for which the SDK would reject it."""
        try:
            methods.parse_server_result(METHOD, self.version() or DEFAULT_VERSION, page)
        except ValidationError as error:
            reasons: dict[int, str] = {}
            for one in error.errors():
                if one["loc"][:1] == ("tools",) and len(one["loc"]) > 1:
                    where = ".".join(str(part) for part in one["loc"][2:])
                    reasons.setdefault(int(one["loc"][1]), f"its {where}: {one['msg']}")
            for number, why in reasons.items():
                self.problems[page["tools"][number]["name"]] = why
            kept = [tool for number, tool in enumerate(page["tools"]) if number not in reasons]
            return {**page, "tools": kept}
        except (KeyError, ValueError):  # a version newer than the SDK's tables
            pass
        return page


class _MappedStream:
    """A receive stream with `change` applied to each item."""

    def __init__(self, incoming: Any, change: Callable[[Any], Any]):
        self._incoming, self._change = incoming, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._incoming, name)

    async def receive(self) -> Any:
        return self._change(await self._incoming.receive())

    def __aiter__(self) -> "_MappedStream":
        return self

    async def __anext__(self) -> Any:
        return self._change(await self._incoming.__anext__())

    async def __aenter__(self) -> "_MappedStream":
        await self._incoming.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._incoming.__aexit__(*error)


async def list_pages(client: Client) -> Mapping[str, types.Tool]:
    """Requests all pages from the server, bypassing the cache; returns the readable tools."""
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
    repaired = {key: value for key, value in tool.items() if value is not None}
    for key in ("inputSchema", "outputSchema"):
        if isinstance(repaired.get(key), dict):
            repaired[key] = _with_object_type(repaired[key])
    return repaired


def _with_object_type(schema: dict[str, Any]) -> dict[str, Any]:
    """Adds `type: object` at the root, which the protocol requires and some servers omit."""
    repaired = {
        key: value
        for key, value in schema.items()
        if value is not None or key not in ("type", "properties", "required", "$defs")
    }
    kind = repaired.get("type", "object")
    if isinstance(kind, list) and "object" in kind:
        kind = "object"
    return {**repaired, "type": kind}
