"""MCP over HTTP: error statuses and oversized responses fail one request, not the session.

The SDK reads an error's body only if it is a JSON-RPC error, distinguishes no status but 404, and
ends the session at an exception. The response hook therefore gives each response with an error
status a JSON-RPC body that holds the status, the requested wait and the first line of the message;
`fault_of` converts it to a fault. A JSON-RPC error of the server is kept, unless the status
concerns the client rather than the request (credentials, quotas, gateways).
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx2
from mcp import MCPError

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.workers.tools.endpoint.http_client import (
    Bounded,
    retry_after_s,
    server_message,
    status_kind,
)
from orchestra_ray.workers.tools.mcp.stdio import TOO_LONG

HTTP_ERROR = -31_400  # outside the codes that JSON-RPC and MCP reserve
BODY_BYTES = 65_536  # read of an error's body, at most
BODY_S = 5.0
SESSION_HEADER = "mcp-session-id"
_ABOUT_THE_CLIENT = {401, 402, 403, 429, 502, 503, 504}


class OversizedResponse(httpx2.SSEError, httpx2.StreamError):
    """The SDK takes the one base for the end of a stream, the other for that of a JSON body."""


def response_hook(limit_bytes: int) -> Callable[[httpx2.Response], Awaitable[None]]:
    """Returns an event hook that bounds responses and gives errors a JSON-RPC body."""

    async def hook(response: httpx2.Response) -> None:
        stream = response.stream
        if response.request.method != "POST" or not isinstance(stream, httpx2.AsyncByteStream):
            return  # the stream of notifications is unbounded
        if response.status_code < 400:
            too_long = OversizedResponse(f"{TOO_LONG} {limit_bytes} bytes")
            response.stream = Bounded(stream, limit_bytes, too_long)
            return
        body = await _read_start(stream)
        if not _is_kept(response, body):
            error = {"code": HTTP_ERROR, "message": _message(body), "data": _error_data(response)}
            body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
            response.headers["content-type"] = "application/json"
        response.headers.pop("content-length", None)
        response.stream = httpx2.ByteStream(body)

    return hook


def fault_of(error: MCPError, server: str) -> Fault | None:
    """Returns the fault of an HTTP status, None for an error of the protocol."""
    data = error.error.data
    if error.code != HTTP_ERROR or not isinstance(data, dict) or "status" not in data:
        return None
    status = data["status"]
    text = f"{server} answered HTTP {status}: {error.message}"
    if status == 404 and data["in_session"]:
        return Fault(FaultKind.CONNECTION, f"{server} ended the session: {error.message}")
    kind = FaultKind.DENIED if status == 403 else status_kind(status)
    return Fault(kind, text, retry_after_s=data["retry_after_s"])


def _is_kept(response: httpx2.Response, body: bytes) -> bool:
    """Returns whether the body is a JSON-RPC error about the request, which the SDK can read."""
    about_the_client = response.status_code in _ABOUT_THE_CLIENT or _session_expired(response)
    return not about_the_client and _is_error(_loaded(body))


def _session_expired(response: httpx2.Response) -> bool:
    return response.status_code == 404 and SESSION_HEADER in response.request.headers


def _error_data(response: httpx2.Response) -> dict[str, Any]:
    return {
        "status": response.status_code,
        "retry_after_s": retry_after_s(response.headers),
        "in_session": SESSION_HEADER in response.request.headers,
    }


def _is_error(body: Any) -> bool:
    error = body.get("error") if isinstance(body, dict) and "jsonrpc" in body else None
    return isinstance(error, dict) and "code" in error


def _message(body: bytes) -> str:
    """Returns the first line of an error in the format of JSON-RPC, OAuth, FastAPI or text."""
    error = _loaded(body)
    if isinstance(error, dict) and "error" in error:
        error = error.get("error_description") or error["error"]
    return server_message(error)


def _loaded(body: bytes) -> Any:
    text = body.decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


async def _read_start(stream: httpx2.AsyncByteStream) -> bytes:
    body = b""
    with anyio.move_on_after(BODY_S):
        async for chunk in stream:
            body += chunk
            if len(body) >= BODY_BYTES:
                break
    await stream.aclose()
    return body[:BODY_BYTES]
