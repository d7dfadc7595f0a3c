"""Lines of JSON from a command, below and above the bound on their size."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import types
from mcp.shared.message import SessionMessage

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.workers.tools.mcp import session as mcp_session
from orchestra_ray.workers.tools.mcp.server import McpServer
from orchestra_ray.workers.tools.mcp.session import McpSettings
from orchestra_ray.workers.tools.mcp.stdio import KEPT_BYTES, Lines, message_of

RAW_SERVER = str(Path(__file__).parents[1] / "raw_mcp_server.py")
LIMIT = 5000


def tool(text: str) -> dict[str, Any]:
    return {"listing": {"inputSchema": {}}, "result": {"content": [{"type": "text", "text": text}]}}


def raw(path: Path, tools: dict[str, Any]) -> McpSettings:
    path.write_text(json.dumps(tools))
    return McpSettings("raw", (sys.executable, RAW_SERVER, str(path)), deadline_s=60)


@given(st.lists(st.integers(0, 3 * LIMIT), max_size=6), st.lists(st.integers(1, 4000), min_size=1))
def test_lines_are_cut_wherever_chunks_end(sizes: list[int], cuts: list[int]) -> None:
    lines = [bytes([65 + n]) * size for n, size in enumerate(sizes)]
    stream = b"".join(line + b"\n" for line in lines) + b"rest"
    cutter, found, at, n = Lines(LIMIT), [], 0, 0
    while at < len(stream):
        size = cuts[n % len(cuts)]
        found += cutter.take(stream[at : at + size])
        at, n = at + size, n + 1
    ends = [(line[:KEPT_BYTES], line[-KEPT_BYTES:]) for line in lines]
    expected = [
        line if len(line) <= LIMIT else pair for line, pair in zip(lines, ends, strict=True)
    ]
    assert found == expected


@pytest.mark.parametrize("number", [7, "seven"])
@pytest.mark.parametrize("order", ["front", "behind", "last"])
def test_the_request_that_a_skipped_line_answers_is_found(number: int | str, order: str) -> None:
    inner = {"structuredContent": {"id": 99, "text": '","id":98}' + "a" * 3 * LIMIT}}
    message = {
        "front": {"jsonrpc": "2.0", "id": number, "result": inner},
        "behind": {"result": inner, "jsonrpc": "2.0", "id": number},
        "last": {"result": inner, "id": number, "jsonrpc": "2.0"},
    }[order]
    for separators in ((",", ":"), (", ", ": ")):
        line = json.dumps(message, separators=separators).encode()
        (skipped,) = Lines(LIMIT).take(line + b"\r\n")
        received = message_of(skipped, LIMIT)
        assert isinstance(received, SessionMessage)
        assert isinstance(received.message, types.JSONRPCError) and received.message.id == number


def test_a_line_without_a_number_of_its_own_answers_nothing() -> None:
    said = {"method": "notifications/message", "params": {"data": "a" * 2 * LIMIT, "id": 7}}
    line = json.dumps({"jsonrpc": "2.0", **said}).encode()
    (skipped,) = Lines(LIMIT).take(line + b"\n")
    assert isinstance(message_of(skipped, LIMIT), ValueError)


@pytest.mark.parametrize("first", [{}, {"id": 7}], ids=["notice", "request"])
def test_what_the_server_asks_answers_nothing(first: dict[str, Any]) -> None:
    asked = {**first, "method": "m", "params": {"data": "a" * 2 * LIMIT}, "id": 7}
    line = json.dumps({"jsonrpc": "2.0", **asked}).encode()
    (skipped,) = Lines(LIMIT).take(line + b"\n")
    assert isinstance(message_of(skipped, LIMIT), ValueError)


def test_an_answer_that_cannot_be_read_ends_its_request() -> None:
    for body in (
        b'"result": [1]',
        b'"result": {"a": nan}',
        b'"error": "no"',
        b'"result": ' + b"[" * 9_000,
    ):
        received = message_of(b'{"jsonrpc": "2.0", "id": 7, ' + body + b"}", LIMIT)
        assert isinstance(received, SessionMessage)
        assert isinstance(received.message, types.JSONRPCError) and received.message.id == 7


def test_a_result_above_the_bound_is_its_calls_fault_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_session, "LIMIT_BYTES", 2**20)
    tools = {"long": tool("a" * 2**20), "short": tool("a" * (2**20 - 1000))}
    settings = raw(tmp_path / "tools.json", tools)

    async def main() -> None:
        server = McpServer(settings)
        try:
            for _ in range(2):
                with pytest.raises(Fault, match="longer than 1048576 bytes") as caught:
                    await server.call("long", {})
                assert caught.value.kind is FaultKind.BAD_REPLY
                assert (await server.call("short", {})).content
            assert server._failures == 0
        finally:
            await server.close()

    asyncio.run(main())


def test_time_grows_with_the_size_of_a_result_and_not_with_its_square(tmp_path: Path) -> None:
    """Sixteen times the bytes; by the square it would be 256 times as long, here 20 s."""
    mib = 2**20
    tools = {"small": tool("a" * mib), "large": tool("a" * 16 * mib)}
    settings = raw(tmp_path / "tools.json", tools)

    async def main() -> float:
        server = McpServer(settings)
        try:
            await server.call("small", {})
            started = time.monotonic()
            await server.call("large", {})
            return time.monotonic() - started
        finally:
            await server.close()

    assert asyncio.run(main()) < 10


def test_what_is_no_message_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps({"t": tool("\ud800 half, 世")}))
    script = f"""
import runpy, sys
print("Listening ...\\n\\n{{not json}}")
sys.stdout.flush()
sys.stdout.buffer.write(b"\\xff\\xfe\\n")
sys.argv = ["server", {str(path)!r}]
runpy.run_path({RAW_SERVER!r}, run_name="__main__")
"""

    async def main() -> None:
        server = McpServer(McpSettings("raw", (sys.executable, "-c", script), deadline_s=20))
        try:
            (block,) = (await server.call("t", {})).content
            assert isinstance(block, types.TextContent) and block.text.endswith("half, 世")
        finally:
            await server.close()

    asyncio.run(main())
