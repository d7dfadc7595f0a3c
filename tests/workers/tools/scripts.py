"""A server that misbehaves on demand (`bad_server.py`), its scripts, and its callers."""

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.core.faults import Fault
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Caller, Task, ToolOption, ToolRequest
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.endpoint.model import EndpointModel
from orchestra_ray.workers.tools.endpoint.settings import EndpointSettings

Script = dict[str, Any]
DEADLINE_S, FIRST_TOKEN_S, IDLE_S = 1.5, 0.6, 0.3
JSON = {"Content-Type": "application/json"}
HTML = {"Content-Type": "text/html"}
SSE = {"Content-Type": "text/event-stream"}
TOLD = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
CALLER = Caller(step=0, group_id="g", episode_id="e", turn=0)
OPTION = ToolOption("nova", "m", "model", "", Prices(), latency_s=1.0)


@dataclass(frozen=True)
class BadServer:
    """A chat endpoint that follows a script."""

    url: str
    process: subprocess.Popen[str]

    def seen(self, after: str = "") -> dict[str, Any]:
        """What came since the last time; waits until there is some of `after`."""
        with urllib.request.urlopen(f"{self.url}/seen?after={after}", timeout=30) as reply:
            return json.load(reply)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


def serve() -> Iterator[BadServer]:
    command = [sys.executable, str(Path(__file__).parent / "bad_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield BadServer(f"http://127.0.0.1:{int(process.stdout.readline())}/v1", process)
        finally:
            process.kill()


def settings(url: str, script: Script, **changes: Any) -> EndpointSettings:
    limits: dict[str, Any] = {
        "deadline_s": DEADLINE_S,
        "first_token_s": FIRST_TOKEN_S,
        "idle_s": IDLE_S,
    }
    given: dict[str, Any] = {
        "connect_s": 1.4,
        "max_output_tokens": 64,
        "extra_body": {"script": script},
    }
    return EndpointSettings((url,), "m", **(limits | given | changes))


def request(question: str = "What is 2 + 2?", **more: Any) -> ToolRequest:
    task = Task("t", "sums", question, {})
    return ToolRequest("call", CALLER, OPTION, {}, task, seed=0, attempt=0, **more)


def ask(asked: EndpointSettings, question: str = "What is 2 + 2?", **more: Any) -> Reply:
    async def once() -> Reply:
        model = EndpointModel(asked)
        try:
            return await model.call(request(question, **more))
        finally:
            await model.close()

    return asyncio.run(once())


def fault_of(asked: EndpointSettings) -> Fault:
    with pytest.raises(Fault) as caught:
        ask(asked)
    return caught.value


def body(content: Any = "4", finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": content} | message}
    return {"choices": [choice | {"finish_reason": finish}], "usage": TOLD}


def whole(value: Any) -> Script:
    return {"status": 200, "headers": JSON, "parts": [json.dumps(value)]}


def chunk(content: str | None = None, finish: str | None = None, **more: Any) -> str:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return event({"choices": [choice]} | more)


def event(value: Any) -> str:
    return f"data: {json.dumps(value)}\n\n"


def stream(*parts: str | float, end: str = "keep") -> Script:
    return {"status": 200, "headers": SSE, "chunked": True, "parts": parts, "end": end}


LAST = chunk(finish="stop")
USAGE = event({"choices": [], "usage": TOLD})
DONE = "data: [DONE]\n\n"
