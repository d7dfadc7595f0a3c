"""Charges of endpoint calls in the ledger and the spend budget, over a real server."""

import asyncio
import json
import socket
from typing import Any

import pytest

from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Caller, Task, ToolOption, ToolRequest, ToolResult
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind, Limits
from orchestra_ray.spend.local import LocalSpendClient
from orchestra_ray.workers.tools.registry import make_tools
from orchestra_ray.workers.tools.runtime.executor import Executor

from ..scripts import BadServer, body, chunk, stream, whole

PRICES = Prices(
    input_nanousd_per_mtok=1_000_000_000, output_nanousd_per_mtok=2_000_000_000, call_nanousd=5
)
LIMITS = Limits(retries=2, deadline_s=20.0, context_tokens=4096, max_output_tokens=512)


def called(url: str, script: Any, **settings: Any) -> tuple[ToolResult, LocalSpendClient]:
    given = {"base_urls": [url], "model": "m", "extra_body": {"script": script}} | settings
    entry = Entry("m", Kind.MODEL, "", "endpoint", PRICES, 1.0, LIMITS, settings=given)
    catalogue = Catalogue({"m": entry}, "sheet")
    option = ToolOption("nova", "m", "model", "", PRICES, latency_s=1.0)
    caller = Caller(step=1, group_id="g", episode_id="e", turn=0)
    request = ToolRequest("c", caller, option, {}, Task("t", "f", "2 + 2?", {}), seed=0, attempt=0)
    spend = LocalSpendClient()

    async def main() -> ToolResult:
        executor = Executor(catalogue, make_tools(catalogue), spend)
        try:
            return await executor.execute(request)
        finally:
            await executor.close()

    result = asyncio.run(main())
    assert spend.budget.committed_nanousd == result.entry.charged_nanousd
    assert not spend.budget.held_of("c#0")
    return result, spend


def test_a_refused_connection_costs_nothing() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        result, _ = called(f"http://127.0.0.1:{closed.getsockname()[1]}/v1", {})
    assert (result.entry.error, result.entry.charged_nanousd) == ("connection", 0)
    assert result.entry.retries == 2


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("code", "error", "requests"), [(429, "rate_limited", 3), (400, "rejected", 1)]
)
def test_an_error_in_an_answer_costs_nothing_and_keeps_its_reason(
    server: BadServer, streamed: bool, code: int, error: str, requests: int
) -> None:
    told = {"error": {"message": "the reason", "code": code}}
    script = stream(chunk("4"), f"data: {json.dumps(told)}\n\n") if streamed else whole(told)
    result, _ = called(server.url, script, stream=streamed)
    assert (result.entry.error, result.entry.charged_nanousd) == (error, 0)
    assert "the reason" in result.text and len(server.seen()["bodies"]) == requests


def test_reasoning_outside_the_completion_is_billed(server: BadServer) -> None:
    usage = {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 210}
    result, _ = called(server.url, whole(body() | {"usage": usage}))
    assert result.entry.usage.output_tokens == 190
    assert result.entry.charged_nanousd == 20 * 1000 + 190 * 2000 + 5


def test_a_connection_that_breaks_after_the_request_is_charged_at_the_most(
    server: BadServer,
) -> None:
    result, _ = called(server.url, {"end": "close"})
    most = 4096 * 1000 + 512 * 2000 + 5
    assert (result.entry.error, result.entry.charged_nanousd) == ("connection", 3 * most)
