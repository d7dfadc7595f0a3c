"""Tools of a Model Context Protocol server: a command with MCP on its stdio, or a URL.

All tools of a server share one session in this process. If the session is lost, the next call opens
a new one: immediately after the first loss, then with growing pauses until a call succeeds. A call
that times out does not end the session; the next call first checks that the server still responds.
"""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import anyio
from mcp import MCPError, types
from pydantic import ValidationError

from orchestra_ray.core.errors import ConfigError, first_line
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.tracking.redact import Redactor
from orchestra_ray.tracking.secrets import configured_secrets
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.mcp.http import fault_of
from orchestra_ray.workers.tools.mcp.listing import McpListing
from orchestra_ray.workers.tools.mcp.session import McpSession, McpSettings
from orchestra_ray.workers.tools.mcp.stdio import TOO_LONG

PAUSES_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)  # by consecutive losses
CLOSE_S = 10.0  # above the 4 s after which the client kills a server
MESSAGE_CHARACTERS = 300
_KINDS = {
    types.CONNECTION_CLOSED: FaultKind.CONNECTION,
    types.REQUEST_TIMEOUT: FaultKind.TIMEOUT,
    types.PARSE_ERROR: FaultKind.BAD_REPLY,
    types.INVALID_PARAMS: FaultKind.BAD_INPUT,
}
# Faults that leave the session usable: the server responds, and rejects this client or request.
_REFUSALS = {FaultKind.RATE_LIMITED, FaultKind.DENIED, FaultKind.REJECTED}


async def list_tools(settings: McpSettings) -> list[McpListing]:
    """Returns a server's tools, for the catalogue; `ConfigError` if it cannot be reached."""
    server = McpServer(settings)
    try:
        return await server.list_tools()
    except Fault as fault:
        raise ConfigError(
            f"MCP: {fault}; {server.stderr_tail or 'check command and url'}"
        ) from None
    finally:
        await server.close()


class McpServer:
    """A server and the current session with it, for one event loop."""

    def __init__(self, settings: McpSettings):
        settings.check()
        settings.forwarded_variables()  # raises `ConfigError` if one is not set
        known = configured_secrets(asdict(settings), os.environ)
        self._redactor = Redactor.of(os.environ, known)
        self._settings = settings
        self._lock = asyncio.Lock()
        self._session: McpSession | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._failures = 0
        self._refusal: Fault | None = None  # why the last session was not established
        self._not_before_s = 0.0
        self._closed = False

    @property
    def stderr_tail(self) -> str:
        return self.redacted(self._session.stderr_tail if self._session else "")

    def redacted(self, text: str) -> str:
        return self._redactor.text(text)

    async def list_tools(self) -> list[McpListing]:
        session, redactor = await self._ready(), self._redactor
        readable = [
            McpListing(t.name, redactor.text(t.description or ""), redactor.clean(t.input_schema))
            for t in session.tools.values()
        ]
        problems = session.problems.items()
        return readable + [McpListing(name, "", {}, redactor.text(why)) for name, why in problems]

    async def call(self, name: str, arguments: Mapping[str, Any]) -> types.CallToolResult:
        """Returns the server's result, which may be an error of the tool."""
        session, server = None, self._settings.name
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                session = await self._ready()
                if name not in session.names:  # it may be new, its notification still in flight
                    session.request_listing()
                    await session.listed.wait()
                if name not in session.names:
                    lacks = "no longer has the" if name in session.former_names else "has no"
                    raise Fault(FaultKind.UNAVAILABLE, f"{server} {lacks} tool {name}")
                result = await session.client.call_tool(name, _sendable(arguments))
        except TimeoutError:
            text = f"no answer within {self._settings.deadline_s:g} s"
            fault = Fault(FaultKind.TIMEOUT, text)
        except MCPError as error:
            fault = self._without_secrets(fault_of(error, server)) or Fault(
                _kind_of(error), self._line(error)
            )
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            fault = Fault(FaultKind.CONNECTION, f"{server} closed the connection")
        except (ValidationError, RuntimeError) as error:  # violates the protocol or its schema
            fault = Fault(FaultKind.BAD_REPLY, self._line(error))
        else:
            self._failures = 0
            return result
        if session is not None and fault.kind not in _REFUSALS:
            session.suspect = True
        raise fault

    async def close(self) -> None:
        """Ends the session, and the server's process if there is one."""
        self._closed = True
        self._drop()
        if self._closing:
            _, late = await asyncio.wait(self._closing, timeout=CLOSE_S)
            for task in late:
                task.cancel()

    async def _ready(self) -> McpSession:
        """Returns the current session, or opens a new one if that has ended."""
        async with self._lock:
            if self._closed:
                raise Fault(FaultKind.UNAVAILABLE, f"{self._settings.name} is closed")
            if self._session is not None and not await self._session.responds():
                self._refusal = self._without_secrets(self._session.fault)
                self._drop()
                self._failures += 1
                pause_s = PAUSES_S[min(self._failures, len(PAUSES_S)) - 1]
                if self._refusal is not None:
                    pause_s = max(pause_s, self._refusal.retry_after_s or 0.0)
                self._not_before_s = time.monotonic() + pause_s
            session = self._session = self._session or self._connect()
        await session.settled.wait()
        if (fault := self._without_secrets(session.fault)) is not None:
            raise fault
        return session

    def _connect(self) -> McpSession:
        wait_s = self._not_before_s - time.monotonic()
        if wait_s > 0 and self._refusal and self._refusal.kind is not FaultKind.CONNECTION:
            text = f"{self._refusal}; next attempt in {wait_s:.0f} s"
            raise Fault(self._refusal.kind, text, retry_after_s=wait_s)
        if wait_s > 0:
            losses = f"{self._settings.name} was lost {self._failures} times"
            text = f"{losses}; next attempt in {wait_s:.0f} s"
            raise Fault(FaultKind.CONNECTION, text, retry_after_s=wait_s)
        return McpSession(self._settings, self.redacted)

    def _drop(self) -> None:
        if self._session is not None:
            self._session.end()
            self._closing.add(self._session.task)
            self._session.task.add_done_callback(self._closing.discard)
            self._session = None

    def _without_secrets(self, fault: Fault | None) -> Fault | None:
        """Returns the fault with a redacted text of one line."""
        if fault is None:
            return None
        return Fault(fault.kind, self._line(fault), retry_after_s=fault.retry_after_s)

    def _line(self, error: Exception) -> str:
        return self.redacted(first_line(error))[:MESSAGE_CHARACTERS]


@dataclass(frozen=True, slots=True)
class McpToolSettings:
    """`tool` is the name at the server. None stands for every tool that the server lists, each
    under the name of the entry followed by its own."""

    server: McpSettings
    tool: str | None = None


class McpTool:
    """A `Tool`. Closing one tool closes the server for all of them."""

    def __init__(self, server: McpServer, name: str):
        self._server, self._name = server, name

    async def call(self, request: ToolRequest) -> Reply:
        result = await self._server.call(self._name, request.arguments)
        text = self._server.redacted(text_of(result))
        if result.is_error:  # by the protocol, for the model to correct its call
            raise Fault(FaultKind.BAD_INPUT, text)
        return Reply(text)

    async def close(self) -> None:
        await self._server.close()


def _kind_of(error: MCPError) -> FaultKind:
    if TOO_LONG in error.message:
        return FaultKind.BAD_REPLY
    return _KINDS.get(error.code, FaultKind.SERVER_ERROR)


def _sendable(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces lone surrogates, on which the client's writer would fail."""
    return json.loads(json.dumps(dict(arguments), ensure_ascii=False).encode(errors="replace"))


def text_of(result: types.CallToolResult) -> str:
    """Returns a result as text; other content is replaced by its type and size."""
    if not result.content and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(_block_text(block) for block in result.content)


def _block_text(block: types.ContentBlock) -> str:
    match block:
        case types.TextContent():
            return block.text
        case types.ImageContent() | types.AudioContent():
            return f"[{block.type}: {block.mime_type}, {_size_bytes(block.data)} bytes]"
        case types.ResourceLink():
            size = "" if block.size is None else f", {block.size} bytes"
            return f"[resource: {block.uri}, {block.mime_type or 'unknown type'}{size}]"
        case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
            return resource.text
        case types.EmbeddedResource(resource=types.BlobResourceContents() as resource):
            kind = resource.mime_type or "unknown type"
            return f"[resource: {resource.uri}, {kind}, {_size_bytes(resource.blob)} bytes]"
    return f"[{block.type}]"


def _size_bytes(base64: str) -> int:
    return len(base64) * 3 // 4 - base64.count("=", -2)
