import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.search.exchange import CUT, NOTHING_FOUND
from orchestra_ray.workers.tools.search.web import WebSearchTool, WebSettings, available

RequestFor = Callable[..., ToolRequest]
KEY = "tvly-secret-of-the-test"
PARIS = {
    "title": "Paris",
    "url": "https://example.org/paris",
    "content": "The capital. <|im_end|>",
    "score": 0.9,
    "raw_content": None,
}


def answer(*results: Mapping[str, Any]) -> bytes:
    """A reply in Tavily's shape."""
    body = {
        "query": "q",
        "follow_up_questions": None,
        "answer": None,
        "images": [],
        "results": results,
        "response_time": 0.5,
        "request_id": "r",
    }
    return json.dumps(body).encode()


@dataclass
class Service:
    """A local server; what it does next stands in its fields, what it saw in `seen`."""

    url: str = ""
    status: int = 200
    body: bytes | None = answer(PARIS)  # None: one result, the query itself
    headers: Mapping[str, str] = field(default_factory=dict)
    promised_bytes: int | None = None  # more than the body has: the connection breaks off
    pause_s: float = 0.0  # before each byte
    seen: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            service.seen.append((f"{self.path} {self.headers['Authorization']}", asked))
            body = service.body
            if body is None:
                body = answer({**PARIS, "content": asked["query"]})
            self.send_response(service.status)
            self.send_header("Content-Length", str(service.promised_bytes or len(body)))
            for name, value in service.headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for part in [bytes([byte]) for byte in body] if service.pause_s else [body]:
                    time.sleep(service.pause_s)
                    self.wfile.write(part)
            except ConnectionError:
                pass  # the client gave up

        def log_message(self, format: str, *args: object) -> None: ...

    class Server(ThreadingHTTPServer):
        request_queue_size = 128
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
    service.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("TAVILY_API_KEY", KEY)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield service
    server.shutdown()
    server.server_close()


def ask(url: str, *requests: ToolRequest, **changes) -> Sequence[Reply | BaseException]:
    async def run() -> Sequence[Reply | BaseException]:
        tool = WebSearchTool(WebSettings(**{"base_url": url, "timeout_s": 20.0, **changes}))
        try:
            calls = (tool.call(request) for request in requests)
            return await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await tool.close()

    return asyncio.run(run())


def fault_of(url: str, request: ToolRequest, **changes) -> Fault:
    (fault,) = ask(url, request, **changes)
    assert isinstance(fault, Fault), fault
    assert KEY not in str(fault) and "\n" not in str(fault)
    return fault


def test_a_reply_is_the_numbered_results_with_their_addresses(
    service: Service, request_for: RequestFor
) -> None:
    service.body = answer(PARIS, {**PARIS, "title": "", "content": "x" * 60})
    (reply,) = ask(service.url, request_for("capital of France"), shown_chars=50)
    assert reply == Reply(
        "[1] Paris (https://example.org/paris)\nThe capital. <|im_end|>\n\n"
        "[2]  (https://example.org/paris)\n" + "x" * 50 + CUT,
        Usage(searches=1),
    )


def test_the_request_has_the_key_and_the_settings(
    service: Service, request_for: RequestFor
) -> None:
    ask(service.url, request_for(None, "Which city?"), max_results=7, search_depth="advanced")
    assert service.seen == [
        (
            f"/search Bearer {KEY}",
            {"query": "Which city?", "max_results": 7, "search_depth": "advanced"},
        )
    ]


def test_a_long_query_is_cut_to_what_the_service_takes(
    service: Service, request_for: RequestFor
) -> None:
    ask(service.url, request_for("word " * 200))
    ((_, asked),) = service.seen
    assert asked["query"] == ("word " * 200)[:400]


def test_no_results_are_said_in_words_and_billed(service: Service, request_for: RequestFor) -> None:
    service.body = answer()
    assert ask(service.url, request_for("x")) == [Reply(NOTHING_FOUND, Usage(searches=1))]


def test_calls_at_once_get_their_own_answers(service: Service, request_for: RequestFor) -> None:
    service.body = None
    replies = ask(service.url, *(request_for(f"query {i}") for i in range(20)))
    assert [reply.text for reply in replies if isinstance(reply, Reply)] == [
        f"[1] Paris (https://example.org/paris)\nquery {i}" for i in range(20)
    ]


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (400, b'{"detail": {"error": "no"}}', FaultKind.REJECTED, "400 bad request"),
        (401, b"{}", FaultKind.DENIED, "401 the key in TAVILY_API_KEY is refused"),
        (404, b"<html>", FaultKind.DENIED, "404 not found"),
        (429, b'{"detail": {"error": "no"}}', FaultKind.RATE_LIMITED, "429 too many requests"),
        (432, b"null", FaultKind.DENIED, "432 the plan's limit is used up"),
        (500, b"<html>", FaultKind.SERVER_ERROR, "500 internal server error"),
        (503, b"", FaultKind.SERVER_ERROR, "503 service unavailable"),
        (302, answer(PARIS), FaultKind.REJECTED, "302 found"),
    ],
)
def test_a_refusal_is_a_fault_by_its_status(
    service: Service,
    request_for: RequestFor,
    status: int,
    body: bytes,
    kind: FaultKind,
    text: str,
) -> None:
    service.status, service.body = status, body
    fault = fault_of(service.url, request_for("x"))
    assert (fault.kind, str(fault)) == (kind, f"web search: the service answered {text}")
    assert fault.usage is None


@pytest.mark.parametrize(
    ("headers", "retry_after_s"), [({"Retry-After": "7"}, 7.0), ({"Retry-After": "soon"}, None)]
)
def test_the_wait_that_the_service_asks_for_is_handed_on(
    service: Service,
    request_for: RequestFor,
    headers: Mapping[str, str],
    retry_after_s: float | None,
) -> None:
    service.status, service.headers = 429, headers
    assert fault_of(service.url, request_for("x")).retry_after_s == retry_after_s


@pytest.mark.parametrize(
    "body",
    [
        b"<html>a proxy's page</html>",
        answer(PARIS)[:-20],
        b"",
        b"null",
        b"[]",
        b'{"unexpected": 1}',
        b'{"query": "q", "results": 5}',
        b'{"query": "q", "results": [5]}',
        b'{"query": "q", "results": [{"title": "no address"}]}',
        b"[" * 100_000,
        b'{"query": "\xff"}',
    ],
)
def test_an_answer_that_is_not_tavilys_is_a_bad_reply(
    service: Service, request_for: RequestFor, body: bytes
) -> None:
    service.body = body
    assert fault_of(service.url, request_for("x")).kind is FaultKind.BAD_REPLY


def test_a_body_that_does_not_unpack_is_a_bad_reply(
    service: Service, request_for: RequestFor
) -> None:
    service.headers = {"Content-Encoding": "gzip"}
    assert fault_of(service.url, request_for("x")).kind is FaultKind.BAD_REPLY


def test_a_connection_that_breaks_off_is_a_connection_fault(
    service: Service, request_for: RequestFor
) -> None:
    service.promised_bytes = 10_000
    assert fault_of(service.url, request_for("x")).kind is FaultKind.CONNECTION


def test_nobody_listening_is_a_connection_fault(service: Service, request_for: RequestFor) -> None:
    assert fault_of("http://127.0.0.1:1", request_for("x")).kind is FaultKind.CONNECTION


@pytest.mark.parametrize("pause_s", [30.0, 0.1])
def test_silence_and_a_trickle_of_bytes_both_run_out_of_time(
    service: Service, request_for: RequestFor, pause_s: float
) -> None:
    service.pause_s = pause_s
    fault = fault_of(service.url, request_for("x"), timeout_s=1.0)
    assert (fault.kind, str(fault)) == (FaultKind.TIMEOUT, "web search: no answer in 1 s")


@pytest.mark.parametrize("key", [None, "", " "])
def test_without_a_key_it_is_absent_and_says_why(
    monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("TAVILY_API_KEY", key)
    reason = available()
    assert reason is not None and "TAVILY_API_KEY" in reason and "\n" not in reason
    with pytest.raises(ConfigError, match="TAVILY_API_KEY"):
        WebSearchTool(WebSettings())


def test_with_a_key_it_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAVILY_API_KEY", KEY)
    assert available() is None


def test_an_address_without_its_scheme_is_refused() -> None:
    with pytest.raises(ConfigError, match="start it with https://"):
        WebSettings(base_url="api.tavily.com")
