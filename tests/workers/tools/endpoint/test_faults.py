"""Each misbehaviour of an endpoint is one fault; a real server misbehaves on demand."""

import json
import socket
import time
from email.utils import formatdate
from typing import Any

import pytest

from orchestra_ray.core.faults import FaultKind
from orchestra_ray.core.money import Usage

from ..scripts import (
    DONE,
    HTML,
    JSON,
    LAST,
    SSE,
    USAGE,
    BadServer,
    Script,
    ask,
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
    "ends with an error": (FaultKind.SERVER_ERROR, "reason is error", whole(body("I wo", "error"))),
    "ends the answer early": (FaultKind.SERVER_ERROR, "reason is abort", whole(body("a", "abort"))),
    "ends the answer in its own way": (
        FaultKind.BAD_REPLY,
        "reason is gave_up",
        whole(body("I wo", "gave_up")),
    ),
    "finds its answer unsafe": (FaultKind.REJECTED, "filter", whole(body("I wo", "SAFETY"))),
    "refuses": (FaultKind.REJECTED, "I will not", whole(body(None, refusal="I will not."))),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_server_that(server: BadServer, case: str) -> None:
    kind, text, script = FAULTS[case]
    fault = fault_of(settings(server.url, script))
    assert (fault.kind, text in str(fault)) == (kind, True), str(fault)


ERRORS: list[tuple[Any, FaultKind, str]] = [
    ({"message": "slow down", "code": 429}, FaultKind.RATE_LIMITED, "429: slow down"),
    ({"message": "slow down", "code": "429"}, FaultKind.RATE_LIMITED, "429: slow down"),
    ({"message": "slow down", "type": "rate_limit_error"}, FaultKind.RATE_LIMITED, "429: slow"),
    ({"message": "q", "status": "RESOURCE_EXHAUSTED"}, FaultKind.RATE_LIMITED, "429: q"),
    ({"message": "bad key", "code": "invalid_api_key"}, FaultKind.DENIED, "401: bad key"),
    ({"message": "pay", "code": "insufficient_quota"}, FaultKind.DENIED, "402: pay"),
    ({"message": "who?", "code": "model_not_found"}, FaultKind.DENIED, "404: who?"),
    ({"message": "no", "type": "invalid_request_error"}, FaultKind.REJECTED, "400: no"),
    ({"message": "full", "type": "overloaded_error"}, FaultKind.SERVER_ERROR, "503: full"),
    ({"message": "out of memory"}, FaultKind.SERVER_ERROR, "500: out of memory"),
    ({"code": 502}, FaultKind.SERVER_ERROR, "502: no message"),
    ("out of memory", FaultKind.SERVER_ERROR, "500: out of memory"),
    ("Rate limit exceeded", FaultKind.RATE_LIMITED, "429: Rate limit exceeded"),
    (
        {"message": "Provider returned error", "code": 429, "metadata": {"raw": "later"}},
        FaultKind.RATE_LIMITED,
        "429: Provider returned error: later",
    ),
]
PLACES = {
    "in a body": lambda error: whole({"error": error}),
    "in a body with an empty answer": lambda error: whole(
        body(None) | {"usage": None, "error": error}
    ),
    "in a choice": lambda error: whole({"choices": [{"error": error, "finish_reason": "error"}]}),
    "in a stream": lambda error: stream(chunk("a"), event({"error": error}), DONE),
    "in a choice of a stream": lambda error: stream(
        chunk("a"), event({"choices": [{"delta": {}, "error": error, "finish_reason": "error"}]})
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_error_in_an_answer_is_what_its_code_says_and_costs_nothing(
    server: BadServer, place: str
) -> None:
    for error, kind, text in ERRORS:
        script = PLACES[place](error)
        fault = fault_of(settings(server.url, script, stream="stream" in place))
        assert (fault.kind, text in str(fault)) == (kind, True), (error, str(fault))
        assert fault.usage is None and not fault.may_have_acted


@pytest.mark.parametrize(
    "said",
    [
        {"object": "error", "message": "too long", "code": 400},
        {"code": 400, "msg": "too long"},
        {"error": True, "message": "too long", "code": 400},
    ],
)
def test_a_body_that_is_an_error_itself_is_one(server: BadServer, said: Any) -> None:
    fault = fault_of(settings(server.url, whole(said)))
    assert (fault.kind, str(fault)) == (FaultKind.REJECTED, "400: too long")


@pytest.mark.parametrize("nothing", [None, {}, "", False, {"code": None, "message": ""}])
def test_an_error_that_says_nothing_is_none(server: BadServer, nothing: Any) -> None:
    assert ask(settings(server.url, whole(body() | {"error": nothing}))).text == "4"
    script = stream(chunk("4", error=nothing), LAST, USAGE, DONE)
    if not isinstance(nothing, dict) or not nothing:  # the SDK takes any object for an error
        assert ask(settings(server.url, script, stream=True)).text == "4"


STREAM_FAULTS: dict[str, tuple[FaultKind, str, Script]] = {
    "says nothing": (FaultKind.TIMEOUT, "no first token within 0.6 s", {"end": "hang"}),
    "only greets": (
        FaultKind.TIMEOUT,
        "no first token",
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
    assert fault.kind is FaultKind.CONNECTION and not fault.sent


@pytest.mark.parametrize("url", ["http://no-such-host.invalid/v1", "https://{server}/v1"])
def test_no_request_is_sent_without_a_name_or_tls(server: BadServer, url: str) -> None:
    url = url.replace("{server}", server.url.split("/")[2])
    fault = fault_of(settings(url, {}, deadline_s=10.0, connect_s=8.0))
    assert fault.kind is FaultKind.CONNECTION and not fault.sent and not fault.may_have_acted


@pytest.mark.parametrize("end", ["close", "reset"])
def test_a_connection_that_breaks_later_may_have_carried_the_request(
    server: BadServer, end: str
) -> None:
    assert fault_of(settings(server.url, {"end": end})).may_have_acted


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
    assert not fault.sent
    assert fault.kind is FaultKind.CONNECTION  # at the deadline it were a TIMEOUT


@pytest.mark.parametrize("streamed", [False, True])
def test_a_flood_is_dammed(server: BadServer, streamed: bool) -> None:
    script = {"status": 200, "headers": SSE if streamed else JSON, "end": "flood"}
    asked = settings(server.url, script, stream=streamed, deadline_s=20, first_token_s=20)
    fault = fault_of(asked)
    assert fault.kind is FaultKind.BAD_REPLY and "longer than" in str(fault)
    assert server.seen()["flooded_bytes"] < 16 * 2**20  # what sockets buffer, at most
