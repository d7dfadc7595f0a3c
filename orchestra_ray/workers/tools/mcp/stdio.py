"""MCP over the stdio of a command: lines of JSON, read in linear time and of bounded size.

The SDK's client concatenates its whole buffer for each 64 KiB received, so a result of a few MiB
takes seconds; here a line is joined once. A line above the bound is skipped, and its request gets
an error instead, so that the session continues. The end follows the SDK: stdin is closed, then the
process group is terminated, then killed.
"""

import json
import logging
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import IO, Any

import anyio
from anyio.abc import Process
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp import types
from mcp.client.stdio import get_default_environment
from mcp.os.posix.utilities import terminate_posix_process_tree
from mcp.shared.message import SessionMessage
from mcp.types import jsonrpc_message_adapter

from orchestra_ray.core.errors import first_line

CHUNK_BYTES = 65_536
FLUSH_S = 0.5  # for messages accepted but not yet written
EXIT_S = 2.0  # after stdin is closed, and once more after SIGTERM
POLL_S = 0.01
KEPT_BYTES = 1024  # of each end of a skipped line
TOO_LONG = "the answer is longer than"
_GONE = (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError)
_ID = rb'"id"\s*:\s*(\d+|"[^"\\]*")'
_VERSION = rb'"jsonrpc"\s*:\s*"2\.0"'
# The outermost "id": only the version is between it and an end of the line.
_ID_IN_FRONT = re.compile(rb"\s*\{\s*(?:" + _VERSION + rb"\s*,\s*)?" + _ID + rb"\s*,")
_ASKS = re.compile(rb"\s*\{\s*(?:" + _VERSION + rb"\s*,\s*)?(?:" + _ID + rb'\s*,\s*)?"method"\s*:')
_ID_BEHIND = re.compile(rb",\s*" + _ID + rb"\s*(?:,\s*" + _VERSION + rb"\s*)?\}\s*$")

logger = logging.getLogger(__name__)
Received = SessionMessage | Exception
Streams = tuple[MemoryObjectReceiveStream[Received], MemoryObjectSendStream[SessionMessage]]


@asynccontextmanager
async def stdio_transport(
    command: Sequence[str],
    env: Mapping[str, str],
    cwd: str | None,
    errlog: IO[Any],
    limit_bytes: int,
) -> AsyncIterator[Streams]:
    """Async context manager: starts the command and yields its streams; OSError if it fails.

    env: variables in addition to the SDK's default environment.
    """
    process = await anyio.open_process(
        list(command),
        env={**get_default_environment(), **env},
        stderr=errlog,
        cwd=cwd,
        start_new_session=True,
    )
    arrived, incoming = anyio.create_memory_object_stream[Received](0)
    outgoing, accepted = anyio.create_memory_object_stream[SessionMessage](0)
    written = anyio.Event()

    async def write() -> None:
        try:
            async with accepted:
                await _write(process, accepted)
        except _GONE:
            await arrived.aclose()  # or a request would wait for a response forever
        finally:
            written.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_read, process, arrived, limit_bytes)
        tasks.start_soon(write)
        try:
            yield incoming, outgoing
        finally:
            with anyio.CancelScope(shield=True):
                incoming.close()  # later messages are discarded
                outgoing.close()
                with anyio.move_on_after(FLUSH_S):
                    await written.wait()
                await _stop(process)
            tasks.cancel_scope.cancel()


class Lines:
    """Splits a stream of bytes into lines; of a line above the bound, only both ends are kept."""

    def __init__(self, limit_bytes: int):
        self._limit_bytes = limit_bytes
        self._parts: list[bytes] = []
        self._size_bytes = 0
        self._front: bytes | None = None  # of a line above the bound

    def take(self, chunk: bytes) -> list[bytes | tuple[bytes, bytes]]:
        """Returns the lines that end in `chunk`; a skipped one is a pair of its front and end."""
        *ended, rest = chunk.split(b"\n")
        lines: list[bytes | tuple[bytes, bytes]] = []
        for part in ended:
            self._add(part)
            line = b"".join(self._parts)
            lines.append(line if self._front is None else (self._front, line))
            self._parts, self._size_bytes, self._front = [], 0, None
        self._add(rest)
        return lines

    def _add(self, part: bytes) -> None:
        self._parts.append(part)
        self._size_bytes += len(part)
        if self._size_bytes > self._limit_bytes:
            line = b"".join(self._parts)
            if self._front is None:
                self._front = line[:KEPT_BYTES]
            self._parts = [line[-KEPT_BYTES:]]


def message_of(line: bytes | tuple[bytes, bytes], limit_bytes: int) -> Received:
    """Parses a line. An unreadable or skipped line becomes an error of the request it answers."""
    if isinstance(line, bytes):
        try:
            return SessionMessage(_parsed(line))
        except (ValueError, RecursionError) as problem:
            front, end = line[:KEPT_BYTES], line[-KEPT_BYTES:]
            text = f"the answer cannot be read: {str(problem).splitlines()[-1].strip()}"
    else:
        (front, end), text = line, f"{TOO_LONG} {limit_bytes} bytes"
    found = _ID_IN_FRONT.match(front) or _ID_BEHIND.search(end)
    if found is None or _ASKS.match(front):
        return ValueError(text)
    name = found[1].decode(errors="replace")
    number = name[1:-1] if name.startswith('"') else int(name)
    error = types.ErrorData(code=types.PARSE_ERROR, message=text)
    return SessionMessage(types.JSONRPCError(jsonrpc="2.0", id=number, error=error))


def _parsed(line: bytes) -> types.JSONRPCMessage:
    text = line.decode(errors="replace")
    try:
        return jsonrpc_message_adapter.validate_json(text, by_name=False)
    except ValueError:  # lone surrogates are valid JSON, but not for this parser
        whole = json.dumps(json.loads(text), ensure_ascii=False).encode(errors="replace")
        return jsonrpc_message_adapter.validate_json(whole, by_name=False)


async def _read(process: Process, arrived: MemoryObjectSendStream[Received], limit: int) -> None:
    """Reads to the end, even after the session, since the server may block on a full pipe."""
    assert process.stdout is not None
    lines = Lines(limit)
    async with arrived:
        with suppress(anyio.EndOfStream, *_GONE):
            while chunk := await process.stdout.receive(CHUNK_BYTES):
                for line in lines.take(chunk):
                    if line and not (isinstance(line, bytes) and line.isspace()):
                        await _deliver(message_of(line, limit), arrived)


async def _deliver(received: Received, arrived: MemoryObjectSendStream[Received]) -> None:
    if isinstance(received, Exception):
        logger.warning("unreadable line from an MCP server: %s", first_line(received))
    with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
        await arrived.send(received)


async def _write(process: Process, accepted: MemoryObjectReceiveStream[SessionMessage]) -> None:
    assert process.stdin is not None
    async for one in accepted:
        text = one.message.model_dump_json(by_alias=True, exclude_unset=True)
        await process.stdin.send(text.encode(errors="replace") + b"\n")


async def _stop(process: Process) -> None:
    assert process.stdin is not None
    with suppress(*_GONE):
        await process.stdin.aclose()
    if not await _ends(process):
        await terminate_posix_process_tree(process, EXIT_S)
        await _ends(process)
    with anyio.move_on_after(FLUSH_S), suppress(*_GONE):  # a descendant may hold a pipe open
        await process.aclose()


async def _ends(process: Process) -> bool:
    """Returns whether the process ends within EXIT_S.

    Polls, since asyncio's `wait` also waits for the pipes, which descendants may hold open.
    """
    with anyio.move_on_after(EXIT_S):
        while process.returncode is None:
            await anyio.sleep(POLL_S)
    return process.returncode is not None
