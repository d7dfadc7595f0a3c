"""MCP over HTTP: error statuses and over-long answers become errors of the one request they answer.

The SDK reads the body of an error only where it is a JSON-RPC error, tells apart no status but 404,
and ends the session at an exception. So an answer with an error status gets such a body, with the
status, the pause that it asks for and the first line of its message, from which `fault_of` makes a
fault. A server's own JSON-RPC error stands, but where the status is about the client and not about
the request: keys, quotas, gateways.
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
    first_line,
    retry_after_s,
    status_kind,
)
from orchestra_ray.workers.tools.mcp.stdio import TOO_LONG

HTTP_ERROR = -31_400  # outside the codes that JSON-RPC and MCP reserve
BODY_BYTES = 65_536  # of an error; more of it is not read
BODY_S = 5.0
SESSION_HEADER = "mcp-session-id"
_ABOUT_THE_CLIENT = {401, 402, 403, 429, 502, 503, 504}


class TooLong(httpx2.SSEError, httpx2.StreamError):
    """The two that the SDK takes for the end of one answer, of a stream and of a JSON body."""


def response_hook(limit_bytes: int) -> Callable[[httpx2.Response], Awaitable[None]]:
    """For the client's `event_hooks`: bounds answers, and gives errors a body that is read."""

    async def hook(response: httpx2.Response) -> None:
        stream = response.stream
        if response.request.method != "POST" or not isinstance(stream, httpx2.AsyncByteStream):
            return  # the standing stream of notifications has no end
        if response.status_code < 400:
            too_long = TooLong(f"{TOO_LONG} {limit_bytes} bytes")
            response.stream = Bounded(stream, limit_bytes, too_long)
            return
        body = await _start_of(stream)
        if not _stands(response, body):
            error = {"code": HTTP_ERROR, "message": _message(body), "data": _about(response)}
            body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
            response.headers["content-type"] = "application/json"
        response.headers.pop("content-length", None)
        response.stream = httpx2.ByteStream(body)

    return hook


def fault_of(error: MCPError, server: str) -> Fault | None:
    """The fault of an HTTP status; None where the error is the protocol's own."""
    data = error.error.data
    if error.code != HTTP_ERROR or not isinstance(data, dict) or "status" not in data:
        return None
    status = data["status"]
    text = f"{server} answered HTTP {status}: {error.message}"
    if status == 404 and data["in_session"]:
        return Fault(FaultKind.CONNECTION, f"{server} ended the session: {error.message}")
    kind = FaultKind.DENIED if status == 403 else status_kind(status)
    return Fault(kind, text, retry_after_s=data["retry_after_s"])


def _stands(response: httpx2.Response, body: bytes) -> bool:
    """Whether the SDK is to read the body as it is: a JSON-RPC error about the request."""
    about_the_client = response.status_code in _ABOUT_THE_CLIENT or _is_over(response)
    return not about_the_client and _is_error(_loaded(body))


def _is_over(response: httpx2.Response) -> bool:
    return response.status_code == 404 and SESSION_HEADER in response.request.headers


def _about(response: httpx2.Response) -> dict[str, Any]:
    return {
        "status": response.status_code,
        "retry_after_s": retry_after_s(response.headers),
        "in_session": SESSION_HEADER in response.request.headers,
    }


def _is_error(body: Any) -> bool:
    error = body.get("error") if isinstance(body, dict) and "jsonrpc" in body else None
    return isinstance(error, dict) and "code" in error


def _message(body: bytes) -> str:
    """In the forms of JSON-RPC, OAuth, FastAPI and plain text."""
    said = _loaded(body)
    if isinstance(said, dict) and "error" in said:
        said = said.get("error_description") or said["error"]
    return first_line(said)


def _loaded(body: bytes) -> Any:
    text = body.decode(errors="replace")
    try:
        return json.loads(text)
    except ValueError:
        return text


async def _start_of(stream: httpx2.AsyncByteStream) -> bytes:
    body = b""
    with anyio.move_on_after(BODY_S):
        async for chunk in stream:
            body += chunk
            if len(body) >= BODY_BYTES:
                break
    await stream.aclose()
    return body[:BODY_BYTES]
