"""HTTP client of the tools: pooled connections, responses of bounded size, errors as faults.

The only timeout set here is that for connecting, since each call has its own deadline.
"""

import math
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from email.utils import parsedate_to_datetime
from functools import cache

import httpx2

from orchestra_ray.core.faults import Fault, FaultKind

CONNECTIONS, IDLE_CONNECTIONS = 256, 64
KEEP_ALIVE_S = 4.0  # below the 5 s after which uvicorn, and so vLLM, closes idle connections


def pool(
    connect_s: float, limit_bytes: int, headers: Mapping[str, str] | None = None
) -> httpx2.AsyncClient:
    """Returns a client whose responses raise `Fault` if they exceed `limit_bytes`."""

    async def bound(response: httpx2.Response) -> None:
        if isinstance(response.stream, httpx2.AsyncByteStream):
            text = f"the answer is longer than {limit_bytes} bytes"
            too_long = Fault(FaultKind.BAD_REPLY, text)
            response.stream = Bounded(response.stream, limit_bytes, too_long)

    return httpx2.AsyncClient(
        limits=httpx2.Limits(
            max_connections=CONNECTIONS,
            max_keepalive_connections=IDLE_CONNECTIONS,
            keepalive_expiry=KEEP_ALIVE_S,
        ),
        timeout=httpx2.Timeout(None, connect=connect_s),
        verify=_tls(),
        # Without compression, the bound on the bytes received also bounds the decoded body.
        headers={"Accept-Encoding": "identity", **(headers or {})},
        event_hooks={"response": [bound]},
    )


@cache
def _tls() -> ssl.SSLContext:
    """Returns the process's context; loading the certificates dominates a client's start."""
    return httpx2.create_ssl_context()


class Bounded(httpx2.AsyncByteStream):
    """A stream that raises `too_long` once it exceeds `limit_bytes`."""

    def __init__(self, stream: httpx2.AsyncByteStream, limit_bytes: int, too_long: Exception):
        self._stream, self._limit_bytes, self._too_long = stream, limit_bytes, too_long

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received_bytes = 0
        async for chunk in self._stream:
            received_bytes += len(chunk)
            if received_bytes > self._limit_bytes:
                raise self._too_long
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def was_sent(error: BaseException) -> bool:
    """Returns whether part of the request may have been sent: False if nothing was connected."""
    return not isinstance(error, _NOT_CONNECTED)


_NOT_CONNECTED = (
    httpx2.ConnectError,  # refused, unknown host, TLS
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)


def status_kind(status: int) -> FaultKind:
    """Returns the fault kind of an HTTP error status."""
    if status == 429:
        return FaultKind.RATE_LIMITED
    if status in (401, 402, 404):
        return FaultKind.DENIED
    return FaultKind.SERVER_ERROR if status >= 500 or status == 408 else FaultKind.REJECTED


def server_message(body: object) -> str:
    """Returns the first line of the message in an error body, in any of the servers' formats."""
    if isinstance(body, Mapping):
        body = _message(body)
    lines = body.strip().splitlines() if isinstance(body, str) else []
    if not lines:
        return "no message"
    return "an HTML page" if lines[0].startswith("<") else lines[0]


def _message(error: Mapping[str, object]) -> object:
    message = next(filter(None, (error.get(name) for name in ("message", "detail", "msg"))), None)
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    if isinstance(message, str) and isinstance(raw, str) and raw.strip():  # OpenRouter's provider
        return f"{message}: {raw.strip()}"
    return message


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Returns the wait in the `Retry-After` header, which holds seconds or a date."""
    value = headers.get("retry-after", "")
    try:
        wait_s = float(value)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, wait_s) if math.isfinite(wait_s) else None
