"""A model behind an endpoint, against a real server that misbehaves on demand."""

import asyncio
import json
import math
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.records import Asker, Offer, Task, ToolRequest
from orchestra_ray.tools.endpoint import EndpointModel, EndpointSettings
from orchestra_ray.tools.tool import Fault, FaultKind, Reply

Script = dict[str, Any]
DEADLINE_S, FIRST_TOKEN_S, IDLE_S, MARGIN_S = 1.5, 0.6, 0.3, 10.0
JSON = {"Content-Type": "application/json"}
HTML = {"Content-Type": "text/html"}
SSE = {"Content-Type": "text/event-stream"}
TOLD = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
ASKER = Asker(step=0, group_id="g", episode_id="e", turn=0)
OFFER = Offer("nova", "m", "model", "", Prices(), latency_s=1.0)


@dataclass(frozen=True)
class BadServer:
    url: str

    def seen(self) -> dict[str, Any]:
        """What came since the last time."""
        with urllib.request.urlopen(f"{self.url}/seen", timeout=5) as reply:
            return json.load(reply)


@pytest.fixture(scope="module")
def started() -> Iterator[BadServer]:
    command = [sys.executable, str(Path(__file__).parent / "bad_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield BadServer(f"http://127.0.0.1:{int(process.stdout.readline())}/v1")
        finally:
            process.kill()


@pytest.fixture
def server(started: BadServer) -> BadServer:
    started.seen()
    return started


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


def request(question: str = "What is 2 + 2?") -> ToolRequest:
    task = Task("t", "sums", question, {})
    return ToolRequest("call", ASKER, OFFER, {}, task, seed=0, attempt=0)


def ask(asked: EndpointSettings, question: str = "What is 2 + 2?") -> Reply:
    async def once() -> Reply:
        model = EndpointModel(asked)
        try:
            return await model.call(request(question))
        finally:
            await model.close()

    return asyncio.run(once())


def timed_fault(asked: EndpointSettings) -> tuple[Fault, float]:
    start = time.monotonic()
    with pytest.raises(Fault) as caught:
        ask(asked)
    return caught.value, time.monotonic() - start


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


def test_an_answer_comes_with_the_usage_that_the_server_told(server: BadServer) -> None:
    details = {
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    reply = ask(settings(server.url, whole(body() | {"usage": TOLD | details})))
    assert reply == Reply("4", Usage(12, 8, 3, 2))


def test_a_stream_gives_the_same_reply(server: BadServer) -> None:
    script = stream(chunk("forty"), 0.1, chunk("-two"), LAST, USAGE, DONE)
    assert ask(settings(server.url, script, stream=True)) == Reply("forty-two", Usage(12, 0, 3, 0))
    sent = server.seen()["bodies"][0]
    assert sent["stream"] and sent["stream_options"] == {"include_usage": True}


FAULTS: dict[str, tuple[FaultKind, str, Script]] = {
    "resets": (FaultKind.CONNECTION, "failed", {"end": "reset"}),
    "hangs up without a word": (FaultKind.CONNECTION, "failed", {"end": "close"}),
    "closes within the body": (
        FaultKind.CONNECTION,
        "failed",
        whole(body()) | {"headers": JSON | {"Content-Length": "9999"}, "end": "close"},
    ),
    "says nothing": (FaultKind.TIMEOUT, "no answer within 1.5 s", {"end": "hang"}),
    "says half and nothing more": (
        FaultKind.TIMEOUT,
        "no answer within 1.5 s",
        {"status": 200, "headers": JSON, "parts": ['{"choices"'], "end": "hang"},
    ),
    "answers in HTML": (
        FaultKind.BAD_REPLY,
        "not a JSON object",
        {"status": 200, "headers": HTML, "parts": ["<html><body>Welcome</body></html>"]},
    ),
    "calls HTML JSON": (
        FaultKind.BAD_REPLY,
        "not JSON",
        {"status": 200, "headers": JSON, "parts": ["<html></html>"]},
    ),
    "answers with half a JSON": (
        FaultKind.BAD_REPLY,
        "not JSON",
        {"status": 200, "headers": JSON, "parts": [json.dumps(body())[:40]]},
    ),
    "nests without end": (
        FaultKind.BAD_REPLY,
        "not JSON",
        {"status": 200, "headers": JSON, "parts": ["[" * 200_000]},
    ),
    "is not UTF-8": (
        FaultKind.BAD_REPLY,
        "",
        {"status": 200, "headers": {"Content-Type": "application/json; charset=utf-16"}}
        | {"parts": ["abc"]},
    ),
    "answers with a list": (FaultKind.BAD_REPLY, "not a JSON object", whole([1])),
    "answers with null": (FaultKind.BAD_REPLY, "not a JSON object", whole(None)),
    "has no choices": (FaultKind.BAD_REPLY, "no choices", whole({"object": "x"})),
    "has an empty list of choices": (FaultKind.BAD_REPLY, "empty", whole({"choices": []})),
    "has a number for a choice": (FaultKind.BAD_REPLY, "choice", whole({"choices": [7]})),
    "has no message": (FaultKind.BAD_REPLY, "empty", whole({"choices": [{}]})),
    "says null": (FaultKind.BAD_REPLY, "empty", whole(body(None))),
    "says a number": (FaultKind.BAD_REPLY, "empty", whole(body(42))),
    "thinks until its limit": (
        FaultKind.BAD_REPLY,
        "stopped at its 64 tokens",
        whole(body("<think>hm", "length")),
    ),
    "filters the answer": (
        FaultKind.REJECTED,
        "content filter",
        whole(body("I wo", "content_filter")),
    ),
    "refuses": (FaultKind.REJECTED, "I will not", whole(body(None, refusal="I will not."))),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_server_that(server: BadServer, case: str) -> None:
    kind, text, script = FAULTS[case]
    fault, took_s = timed_fault(settings(server.url, script))
    assert (fault.kind, text in str(fault)) == (kind, True), str(fault)
    assert took_s < DEADLINE_S + MARGIN_S


STREAM_FAULTS: dict[str, tuple[FaultKind, str, Script, float]] = {
    "says nothing": (FaultKind.TIMEOUT, "no first word within 0.6 s", {"end": "hang"}, 0.6),
    "only greets": (
        FaultKind.TIMEOUT,
        "no first word",
        stream(chunk(""), ": ping\n\n", end="hang"),
        FIRST_TOKEN_S,
    ),
    "only keeps the connection alive": (
        FaultKind.TIMEOUT,
        "stopped for 0.3 s",
        stream(chunk("a"), *[0.1, ": ping\n\n"] * 20),
        IDLE_S,
    ),
    "dies in the middle": (
        FaultKind.TIMEOUT,
        "stopped for 0.3 s",
        stream(chunk("a"), 0.2, chunk("b"), end="hang"),
        0.2 + IDLE_S,
    ),
    "drips for ever": (
        FaultKind.TIMEOUT,
        "no answer within 1.5 s",
        stream(*[chunk("a"), 0.1] * 40),
        DEADLINE_S,
    ),
    "hangs up in the middle": (
        FaultKind.CONNECTION,
        "failed",
        stream(chunk("a"), end="close"),
        0.0,
    ),
    "resets in the middle": (
        FaultKind.CONNECTION,
        "failed",
        stream(chunk("a"), 0.1, end="reset"),
        0.1,
    ),
    "ends before the answer does": (
        FaultKind.BAD_REPLY,
        "stopped in the middle",
        stream(chunk("a")),
        0.0,
    ),
    "ends before the answer does, and says that it is done": (
        FaultKind.BAD_REPLY,
        "stopped in the middle",
        stream(chunk("a"), DONE),
        0.0,
    ),
    "sends half a JSON": (
        FaultKind.BAD_REPLY,
        "not JSON",
        stream(chunk("a"), chunk("b")[:30] + "\n\n"),
        0.0,
    ),
    "sends a number": (FaultKind.BAD_REPLY, "not a JSON object", stream(event(7)), 0.0),
    "sends HTML": (
        FaultKind.BAD_REPLY,
        "stopped",
        {"status": 200, "headers": HTML, "parts": ["<html>\n</html>"]},
        0.0,
    ),
    "does not stream": (FaultKind.BAD_REPLY, "stopped", whole(body()), 0.0),
    "sends an error": (
        FaultKind.SERVER_ERROR,
        "500: out of memory",
        stream(chunk("a"), event({"error": {"message": "out of memory", "code": None}}), DONE),
        0.0,
    ),
    "sends a refusal as an error": (
        FaultKind.REJECTED,
        "400: too long",
        stream(event({"error": {"message": "too long", "code": 400}}), DONE),
        0.0,
    ),
    "filters what it began": (
        FaultKind.REJECTED,
        "content filter",
        stream(chunk("a"), chunk(finish="content_filter"), USAGE, DONE),
        0.0,
    ),
}


@pytest.mark.parametrize("case", STREAM_FAULTS)
def test_a_stream_that(server: BadServer, case: str) -> None:
    kind, text, script, expected_s = STREAM_FAULTS[case]
    fault, took_s = timed_fault(settings(server.url, script, stream=True))
    assert (fault.kind, text in str(fault)) == (kind, True), str(fault)
    assert expected_s <= took_s < expected_s + MARGIN_S


STATUSES = [
    (400, FaultKind.REJECTED),
    (401, FaultKind.REJECTED),
    (403, FaultKind.REJECTED),
    (404, FaultKind.REJECTED),
    (413, FaultKind.REJECTED),
    (307, FaultKind.REJECTED),
    (408, FaultKind.SERVER_ERROR),
    (429, FaultKind.RATE_LIMITED),
    (500, FaultKind.SERVER_ERROR),
    (502, FaultKind.SERVER_ERROR),
    (503, FaultKind.SERVER_ERROR),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_a_status_is_one_fault_and_one_request(
    server: BadServer, status: int, kind: FaultKind, streamed: bool
) -> None:
    error = {"error": {"message": "first line\nsecond line", "code": "x"}}
    script = whole(error) | {"status": status}
    fault, _ = timed_fault(settings(server.url, script, stream=streamed))
    assert (fault.kind, str(fault)) == (kind, f"{status}: first line")
    assert len(server.seen()["bodies"]) == 1  # the executor retries, not the SDK


MESSAGES = [
    ({"error": "no such model"}, "404: no such model"),
    ({"message": "no such model"}, "404: no such model"),
    ({"detail": "Not Found"}, "404: Not Found"),
    ({"detail": [{"msg": "no"}]}, "404: no message"),
    ("", "404: no message"),
    ("<!DOCTYPE html>\n<title>404</title>", "404: an HTML page"),
]


@pytest.mark.parametrize(("said", "text"), MESSAGES)
def test_the_message_is_found_in_every_form(server: BadServer, said: Any, text: str) -> None:
    script = {"status": 404, "parts": [said if isinstance(said, str) else json.dumps(said)]}
    assert str(timed_fault(settings(server.url, script))[0]) == text


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("inf", None),
        ("soon", None),
        ("", None),
        ("in an hour", 3600.0),
    ],
)
def test_the_wait_that_the_server_asks_for_is_passed_on(
    server: BadServer, header: str, wait_s: float | None
) -> None:
    if header == "in an hour":
        header = formatdate(time.time() + 3600, usegmt=True)
    script = whole({}) | {"status": 429, "headers": JSON | {"Retry-After": header}}
    given = timed_fault(settings(server.url, script))[0].retry_after_s
    assert given == (wait_s if wait_s is None else pytest.approx(wait_s, abs=120))
    assert wait_s == 3600 or given == wait_s


def test_credit_that_is_used_up_is_not_a_rate_limit(server: BadServer) -> None:
    script = whole({"error": {"message": "pay", "code": "insufficient_quota"}}) | {"status": 429}
    assert timed_fault(settings(server.url, script))[0].kind is FaultKind.REJECTED


def test_what_a_failed_answer_was_billed_is_told(server: BadServer) -> None:
    script = whole(body("", "content_filter"))
    assert timed_fault(settings(server.url, script))[0].usage == Usage(12, 0, 3, 0)
    assert timed_fault(settings(server.url, {"end": "close"}))[0].usage is None


def test_an_endpoint_that_is_not_there_is_a_connection_fault() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        fault, took_s = timed_fault(settings(url, {}))
    assert fault.kind is FaultKind.CONNECTION and took_s < MARGIN_S


def test_an_endpoint_that_does_not_accept_is_given_up_early() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        fault, took_s = timed_fault(settings(f"http://127.0.0.1:{address[1]}", {}, connect_s=0.3))
        for one in waiting:
            one.close()
    assert fault.kind is FaultKind.CONNECTION and 0.3 <= took_s < 0.3 + MARGIN_S


ENDINGS = {
    "without a last word": stream(chunk("4"), LAST, USAGE),
    "that never ends": stream(chunk("4"), LAST, USAGE, end="hang"),
    "that hangs up": stream(chunk("4"), LAST, USAGE, end="close"),
    "that resets": stream(chunk("4"), LAST, USAGE, 0.1, end="reset"),
    "that ends in garbage": stream(chunk("4"), LAST, USAGE, "data: {\n\n"),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_a_whole_answer_is_taken_from_a_stream(server: BadServer, case: str) -> None:
    start = time.monotonic()
    reply = ask(settings(server.url, ENDINGS[case], stream=True, deadline_s=5.0, idle_s=5.0))
    assert reply == Reply("4", Usage(12, 0, 3, 0))
    assert time.monotonic() - start < 1.0 + MARGIN_S


@pytest.mark.parametrize("streamed", [False, True])
def test_a_flood_is_dammed(server: BadServer, streamed: bool) -> None:
    script = {"status": 200, "headers": SSE if streamed else JSON, "end": "flood"}
    asked = settings(server.url, script, stream=streamed, deadline_s=20, first_token_s=20)
    fault, _ = timed_fault(asked)
    assert fault.kind is FaultKind.BAD_REPLY and "longer than" in str(fault)
    assert server.seen()["flooded_bytes"] < 16 * 2**20  # what sockets buffer, at most


USAGES: list[tuple[Any, Usage]] = [
    (None, Usage(4, 0, 25, 0)),
    ("many", Usage(4, 0, 25, 0)),
    ({}, Usage(4, 0, 25, 0)),
    ({"prompt_tokens": 9}, Usage(9, 0, 25, 0)),
    ({"prompt_tokens": -9, "completion_tokens": 20}, Usage(4, 0, 20, 0)),
    ({"prompt_tokens": "9", "completion_tokens": 20.0}, Usage(4, 0, 25, 0)),
    ({"prompt_tokens": True, "completion_tokens": 0}, Usage(4, 0, 25, 0)),
    ({"prompt_tokens": 10**12, "completion_tokens": 65}, Usage(4, 0, 25, 0)),
    (TOLD | {"prompt_tokens_details": {"cached_tokens": 13}}, Usage(12, 0, 3, 0)),
    (TOLD | {"prompt_tokens_details": [8]}, Usage(12, 0, 3, 0)),
    (TOLD | {"completion_tokens_details": {"reasoning_tokens": 4}}, Usage(12, 0, 3, 0)),
    (TOLD | {"completion_tokens_details": {"reasoning_tokens": math.nan}}, Usage(12, 0, 3, 0)),
]


@pytest.mark.parametrize(("told", "usage"), USAGES)
def test_usage_that_cannot_be_believed_is_estimated(
    server: BadServer, told: Any, usage: Usage
) -> None:
    reply = ask(settings(server.url, whole(body("x" * 100) | {"usage": told})))
    assert (reply.text, reply.usage) == ("x" * 100, usage)


def test_an_estimate_stays_within_the_limit(server: BadServer) -> None:
    reply = ask(settings(server.url, whole(body("x" * 10_000) | {"usage": None})))
    assert reply.usage.output_tokens == 64


def test_an_answer_that_was_cut_says_so(server: BadServer) -> None:
    reply = ask(settings(server.url, whole(body("one two", "length"))))
    assert reply.text == "one two\n[cut at 64 tokens]"


def test_thinking_is_left_out_or_kept(server: BadServer) -> None:
    script = whole(body("4", reasoning_content="2 and 2"))
    assert ask(settings(server.url, script)).text == "4"
    kept = ask(settings(server.url, script, strip_thinking=False)).text
    assert kept == "<think>\n2 and 2\n</think>\n\n4"


def test_what_is_sent_is_what_the_settings_say(server: BadServer) -> None:
    script = whole(body())
    more = {"system": "Be brief.", "temperature": 0.2, "max_tokens_field": "max_completion_tokens"}
    ask(settings(server.url, script, **more), "half a pair: \ud800")
    assert server.seen()["bodies"] == [
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "half a pair: ?"},
            ],
            "max_completion_tokens": 64,
            "temperature": 0.2,
            "script": script,
        }
    ]


def test_the_middle_of_a_question_that_does_not_fit_is_left_out(server: BadServer) -> None:
    question = "begin " + "x" * 100_000 + " end"
    ask(settings(server.url, whole(body()), context_tokens=1000), question)
    sent = server.seen()["bodies"][0]["messages"][0]["content"]
    assert len(sent) <= 3 * (1000 - 64) and "characters left out" in sent
    assert sent.startswith("begin x") and sent.endswith("x end")


def test_the_key_is_sent_to_its_endpoint_and_shown_nowhere(
    server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_ACCESS", "s3cret-value\n")
    script = whole({"error": {"message": "bad key s3cret-value"}}) | {"status": 401}
    fault, _ = timed_fault(settings(server.url, script, api_key_env="SHOP_ACCESS"))
    assert str(fault) == "401: bad key [redacted]"
    assert server.seen()["headers"][0]["authorization"] == "Bearer s3cret-value"


def test_a_server_without_a_key_gets_none_of_the_environments(
    server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_WEBHOOK_SECRET"):
        monkeypatch.setenv(name, "s3cret-value")
    ask(settings(server.url, whole(body())))
    assert "s3cret-value" not in str(server.seen()["headers"])


def test_calls_share_connections(server: BadServer) -> None:
    async def twenty() -> None:
        model = EndpointModel(settings(server.url, whole(body())))
        for _ in range(20):
            await model.call(request())
        await model.close()

    asyncio.run(twenty())
    seen = server.seen()
    assert (len(seen["bodies"]), seen["connections"]) == (20, 1)


def test_a_call_that_ran_out_of_time_leaves_no_connection(server: BadServer) -> None:
    async def late_then_well() -> dict[str, Any]:
        model = EndpointModel(settings(server.url, {"end": "hang"}, deadline_s=0.3))
        with pytest.raises(Fault):
            await model.call(request())
        await asyncio.sleep(0.2)
        seen = await asyncio.to_thread(server.seen)
        await model.close()
        return seen

    assert asyncio.run(late_then_well())["hung_up"] == 1


def test_the_endpoint_with_the_fewest_calls_is_asked_and_a_dead_one_rests(
    server: BadServer,
) -> None:
    other = server.url.replace("127.0.0.1", "localhost")
    asked = settings(server.url, stream(0.3, json.dumps(body())) | {"headers": JSON})

    async def eight(*urls: str) -> list[Reply | BaseException]:
        model = EndpointModel(EndpointSettings(urls, "m", extra_body=asked.extra_body))
        first = await asyncio.gather(model.call(request()), return_exceptions=True)
        rest = (model.call(request()) for _ in range(7))
        replies = [*first, *await asyncio.gather(*rest, return_exceptions=True)]
        await model.close()
        return replies

    assert all(isinstance(reply, Reply) for reply in asyncio.run(eight(server.url, other)))
    hosts = [headers["host"].split(":")[0] for headers in server.seen()["headers"]]
    assert sorted(hosts) == ["127.0.0.1"] * 5 + ["localhost"] * 3
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        replies = asyncio.run(eight(dead, server.url))
    assert [isinstance(reply, Fault) for reply in replies] == [True] + [False] * 7


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"api_key_env": "NOT_SET_ANYWHERE"}, "m: the environment has no NOT_SET_ANYWHERE"),
        ({"context_tokens": 64}, "m: 64 context_tokens leave no room"),
        ({"base_urls": ("localhost:8000",)}, "m: base_url localhost:8000"),
        ({"base_urls": ("ftp://host/v1",)}, "m: base_url ftp://host/v1"),
        ({"base_urls": ("http://[::1/v1",)}, r"m: base_url http://\[::1/v1"),
        ({"base_urls": ("https:///v1",)}, "m: base_url https:///v1"),
        ({"base_urls": ()}, "m: no base_urls"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_the_start(
    changes: dict[str, Any], message: str
) -> None:
    given = {"base_urls": ("http://127.0.0.1/v1",), "model": "m"}
    with pytest.raises(ConfigError, match=message):
        EndpointModel(EndpointSettings(**(given | changes)))
