"""What a model's endpoint does wrong, each one fault; a real server that misbehaves on demand."""

import json
import socket
import time
from email.utils import formatdate
from typing import Any

import pytest

from orchestra_ray.core.money import Usage
from orchestra_ray.tools.tool import FaultKind

from .scripts import (
    DONE,
    HTML,
    JSON,
    SSE,
    USAGE,
    BadServer,
    Script,
    body,
    chunk,
    event,
    fault_of,
    settings,
    stream,
    whole,
)

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
    fault = fault_of(settings(server.url, script))
    assert (fault.kind, text in str(fault)) == (kind, True), str(fault)


STREAM_FAULTS: dict[str, tuple[FaultKind, str, Script]] = {
    "says nothing": (FaultKind.TIMEOUT, "no first word within 0.6 s", {"end": "hang"}),
    "only greets": (
        FaultKind.TIMEOUT,
        "no first word",
        stream(chunk(""), ": ping\n\n", end="hang"),
    ),
    "only keeps the connection alive": (
        FaultKind.TIMEOUT,
        "stopped for 0.3 s",
        stream(chunk("a"), *[0.1, ": ping\n\n"] * 20),
    ),
    "dies in the middle": (
        FaultKind.TIMEOUT,
        "stopped for 0.3 s",
        stream(chunk("a"), 0.2, chunk("b"), end="hang"),
    ),
    "drips for ever": (
        FaultKind.TIMEOUT,
        "no answer within 1.5 s",
        stream(*[chunk("a"), 0.1] * 40),
    ),
    "hangs up in the middle": (
        FaultKind.CONNECTION,
        "failed",
        stream(chunk("a"), end="close"),
    ),
    "resets in the middle": (
        FaultKind.CONNECTION,
        "failed",
        stream(chunk("a"), 0.1, end="reset"),
    ),
    "ends before the answer does": (
        FaultKind.BAD_REPLY,
        "stopped in the middle",
        stream(chunk("a")),
    ),
    "ends before the answer does, and says that it is done": (
        FaultKind.BAD_REPLY,
        "stopped in the middle",
        stream(chunk("a"), DONE),
    ),
    "sends half a JSON": (
        FaultKind.BAD_REPLY,
        "not JSON",
        stream(chunk("a"), chunk("b")[:30] + "\n\n"),
    ),
    "sends a number": (FaultKind.BAD_REPLY, "not a JSON object", stream(event(7))),
    "sends HTML": (
        FaultKind.BAD_REPLY,
        "stopped",
        {"status": 200, "headers": HTML, "parts": ["<html>\n</html>"]},
    ),
    "does not stream": (FaultKind.BAD_REPLY, "stopped", whole(body())),
    "sends an error": (
        FaultKind.SERVER_ERROR,
        "500: out of memory",
        stream(chunk("a"), event({"error": {"message": "out of memory", "code": None}}), DONE),
    ),
    "sends a refusal as an error": (
        FaultKind.REJECTED,
        "400: too long",
        stream(event({"error": {"message": "too long", "code": 400}}), DONE),
    ),
    "filters what it began": (
        FaultKind.REJECTED,
        "content filter",
        stream(chunk("a"), chunk(finish="content_filter"), USAGE, DONE),
    ),
}


@pytest.mark.parametrize("case", STREAM_FAULTS)
def test_a_stream_that(server: BadServer, case: str) -> None:
    kind, text, script = STREAM_FAULTS[case]
    fault = fault_of(settings(server.url, script, stream=True))
    assert (fault.kind, text in str(fault)) == (kind, True), str(fault)


STATUSES = [
    (400, FaultKind.REJECTED),
    (401, FaultKind.DENIED),
    (403, FaultKind.REJECTED),
    (404, FaultKind.DENIED),
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
    fault = fault_of(settings(server.url, script, stream=streamed))
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
    assert str(fault_of(settings(server.url, script))) == text


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
    given = fault_of(settings(server.url, script)).retry_after_s
    assert given == (wait_s if wait_s is None else pytest.approx(wait_s, abs=120))
    assert wait_s == 3600 or given == wait_s


def test_credit_that_is_used_up_is_not_a_rate_limit(server: BadServer) -> None:
    script = whole({"error": {"message": "pay", "code": "insufficient_quota"}}) | {"status": 429}
    assert fault_of(settings(server.url, script)).kind is FaultKind.DENIED


def test_what_a_failed_answer_was_billed_is_told(server: BadServer) -> None:
    script = whole(body("", "content_filter"))
    assert fault_of(settings(server.url, script)).usage == Usage(12, 0, 3, 0)
    assert fault_of(settings(server.url, {"end": "close"})).usage is None


def test_an_endpoint_that_is_not_there_is_a_connection_fault() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        fault = fault_of(settings(url, {}))
    assert fault.kind is FaultKind.CONNECTION


def test_an_endpoint_that_does_not_accept_is_given_up_before_the_deadline() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        fault = fault_of(settings(f"http://127.0.0.1:{address[1]}", {}, connect_s=0.3))
        for one in waiting:
            one.close()
    assert fault.kind is FaultKind.CONNECTION  # at the deadline it were a TIMEOUT


@pytest.mark.parametrize("streamed", [False, True])
def test_a_flood_is_dammed(server: BadServer, streamed: bool) -> None:
    script = {"status": 200, "headers": SSE if streamed else JSON, "end": "flood"}
    asked = settings(server.url, script, stream=streamed, deadline_s=20, first_token_s=20)
    fault = fault_of(asked)
    assert fault.kind is FaultKind.BAD_REPLY and "longer than" in str(fault)
    assert server.seen()["flooded_bytes"] < 16 * 2**20  # what sockets buffer, at most
