"""The faults of an MCP server's HTTP statuses, at the handshake and at a call."""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.workers.tools.mcp import session as mcp_session
from orchestra_ray.workers.tools.mcp.server import McpServer, list_tools
from orchestra_ray.workers.tools.mcp.session import McpSettings

Answer = tuple[int, dict[str, str], bytes]
JSON = {"Content-Type": "application/json"}
DENIED, LIMITED, REJECTED = FaultKind.DENIED, FaultKind.RATE_LIMITED, FaultKind.REJECTED
# Status, headers and body; the class of the fault and what its line says.
REFUSALS = [
    (
        401,
        JSON,
        b'{"error": "invalid_token", "error_description": "it expired"}',
        DENIED,
        "expired",
    ),
    (
        401,
        JSON,
        b'{"jsonrpc": "2.0", "id": null, "error": {"code": -32001, "message": "Who are you?"}}',
        DENIED,
        "HTTP 401: Who are you?",
    ),
    (403, {}, b"not for s3cret-value\nat all", DENIED, r"HTTP 403: not for \[redacted\]$"),
    (404, {"Content-Type": "text/html"}, b"<html>none</html>", DENIED, "404: an HTML page"),
    (429, {"Retry-After": "7"}, b"slow down", LIMITED, "429: slow down"),
    (500, {}, b"", FaultKind.SERVER_ERROR, "500: no message"),
    (503, {"Retry-After": "3"}, b'{"detail": "warming"}', FaultKind.SERVER_ERROR, "503: warming"),
    (400, {}, b"bad", REJECTED, "400: bad"),
]


def result(request: Any, value: dict[str, Any]) -> Answer:
    body = {"jsonrpc": "2.0", "id": request["id"], "result": value}
    return 200, JSON, json.dumps(body).encode()


class Endpoint:
    """An MCP endpoint that keeps a session; each call of its tool is answered with `at_call`."""

    def __init__(self, at_call: Callable[[Any], Answer], always: Answer | None = None):
        self._at_call, self._always, self.started = at_call, always, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                sizes = [line for line in head.split("\r\n") if line.startswith("content-length")]
                body = await reader.readexactly(int(sizes[0].split(":")[1])) if sizes else b"{}"
                status, headers, said = self._answer(head, json.loads(body))
                lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                start = f"HTTP/1.1 {status} Said\r\nContent-Length: {len(said)}\r\n{lines}\r\n"
                writer.write(start.encode() + said)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def _answer(self, head: str, request: Any) -> Answer:
        if self._always is not None:
            return self._always
        match request.get("method"):
            case "initialize":
                self.started += 1
                about = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}}
                about["serverInfo"] = {"name": "far", "version": "1"}
                status, headers, body = result(request, about)
                return status, headers | {"Mcp-Session-Id": f"session-{self.started}"}, body
            case "tools/list" if f"session-{self.started}" in head:
                return result(request, {"tools": [{"name": "t", "inputSchema": {}}]})
            case "tools/call":
                return self._at_call(request)
            case str(method) if method.startswith("notifications/"):
                return 202, {}, b""
        return 404, {}, b"Session not found"


def with_server(
    endpoint: Endpoint, use: Callable[[McpServer], Coroutine[Any, Any, None]], **more: Any
) -> None:
    async def main() -> None:
        served = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{served.sockets[0].getsockname()[1]}/mcp"
        server = McpServer(McpSettings("far", url=url, deadline_s=20, **more))
        try:
            await use(server)
        finally:
            await server.close()
            served.close()

    asyncio.run(main())


async def fault_of(server: McpServer) -> Fault:
    with pytest.raises(Fault) as caught:
        await server.call("t", {})
    return caught.value


@pytest.mark.parametrize(("status", "headers", "body", "kind", "says"), REFUSALS)
@pytest.mark.parametrize("at_handshake", [True, False])
def test_a_status_is_reported_with_its_reason(
    status: int,
    headers: dict[str, str],
    body: bytes,
    kind: FaultKind,
    says: str,
    at_handshake: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MCP_TEST_TOKEN", "s3cret-value")
    refusal = (status, headers, body)
    if status == 404 and not at_handshake:
        kind, says = FaultKind.CONNECTION, "far ended the session"

    async def use(server: McpServer) -> None:
        fault = await fault_of(server)
        assert fault.kind is kind and re.search(says, str(fault)), str(fault)
        asked = headers.get("Retry-After")
        assert fault.retry_after_s == (float(asked) if asked else None)

    endpoint = Endpoint(lambda _: refusal, refusal if at_handshake else None)
    with_server(endpoint, use)


def test_a_refused_call_leaves_the_session_to_the_others() -> None:
    answers = {"429": (429, {}, b"slow"), "401": (401, {}, b"no"), "503": (503, {}, b"busy")}

    def at_call(request: Any) -> Answer:
        which = request["params"]["arguments"].get("status", "")
        return answers.get(which) or result(request, {"content": [{"type": "text", "text": "ok"}]})

    endpoint = Endpoint(at_call)

    async def use(server: McpServer) -> None:
        for status in answers:
            with pytest.raises(Fault):
                await server.call("t", {"status": status})
            assert (await server.call("t", {})).content
        assert endpoint.started == 1

    with_server(endpoint, use)


def test_a_session_that_the_server_ended_is_opened_anew() -> None:
    def at_call(request: Any) -> Answer:
        if endpoint.started == 1:
            endpoint.started = 0  # the server has forgotten it
            return 404, {}, b"Session not found"
        return result(request, {"content": []})

    endpoint = Endpoint(at_call)

    async def use(server: McpServer) -> None:
        assert (await fault_of(server)).kind is FaultKind.CONNECTION
        endpoint.started = 7
        await server.call("t", {})
        assert endpoint.started == 8

    with_server(endpoint, use)


def test_while_it_rests_a_refusal_keeps_its_class() -> None:
    async def use(server: McpServer) -> None:
        faults = [await fault_of(server) for _ in range(3)]
        assert {fault.kind for fault in faults} == {LIMITED}
        assert "next attempt in 7 s" in str(faults[1]) and (faults[1].retry_after_s or 0) > 6

    with_server(Endpoint(lambda _: (0, {}, b""), (429, {"Retry-After": "7"}, b"slow down")), use)


@pytest.mark.parametrize("form", ["json", "stream"])
def test_an_answer_above_the_bound_is_the_calls_fault(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_session, "LIMIT_BYTES", 2**20)

    def at_call(request: Any) -> Answer:
        size = request["params"]["arguments"]["size"]
        status, headers, body = result(request, {"content": [{"type": "text", "text": "a" * size}]})
        if form == "json":
            return status, headers, body
        stream = b"event: message\ndata: " + body + b"\n\n"
        return status, {"Content-Type": "text/event-stream"}, stream

    endpoint = Endpoint(at_call)

    async def use(server: McpServer) -> None:
        for _ in range(2):
            with pytest.raises(Fault, match="the answer is longer than 1048576 bytes") as caught:
                await server.call("t", {"size": 2**20})
            assert caught.value.kind is FaultKind.BAD_REPLY
            assert (await server.call("t", {"size": 2**20 - 2000})).content
        assert endpoint.started == 1

    with_server(endpoint, use)


def test_a_listing_tells_the_status() -> None:
    async def main() -> None:
        endpoint = Endpoint(lambda _: (0, {}, b""), (401, JSON, b'{"error": "no such key"}'))
        served = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{served.sockets[0].getsockname()[1]}/mcp"
        with pytest.raises(ConfigError, match="far answered HTTP 401: no such key"):
            await list_tools(McpSettings("far", url=url))
        served.close()

    asyncio.run(main())
