"""Requests to a model behind an endpoint and the parsing of its answers, over a real server."""

import asyncio
import json
import math
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.money import Usage
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.endpoint.completion import Answer
from orchestra_ray.workers.tools.endpoint.model import EndpointModel
from orchestra_ray.workers.tools.endpoint.settings import EndpointSettings

from ..scripts import (
    DONE,
    JSON,
    LAST,
    TOLD,
    USAGE,
    BadServer,
    ask,
    body,
    chunk,
    fault_of,
    request,
    settings,
    stream,
    whole,
)


def write_tokenizer(folder: Path) -> None:
    """One token a word."""
    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


def fault_of_question(asked: EndpointSettings, question: str) -> Fault:
    with pytest.raises(Fault) as caught:
        ask(asked, question)
    return caught.value


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


@pytest.mark.parametrize("streamed", [False, True])
def test_all_attempts_of_a_call_carry_one_key_that_no_other_call_has(
    server: BadServer, streamed: bool
) -> None:
    script = stream(chunk("4"), LAST, USAGE, DONE) if streamed else whole(body())
    asked = settings(server.url, script, stream=streamed)
    sent = [
        request(),
        request(),
        request("What is 3 + 3?"),
        replace(request(), call_id="another call"),
    ]

    async def call_all() -> None:
        for model in (EndpointModel(asked), EndpointModel(asked)):  # as in two runs
            for one in sent:
                await model.call(one)
            await model.close()

    asyncio.run(call_all())
    keys = [headers["idempotency-key"] for headers in server.seen()["headers"]]
    assert keys[0] == keys[1] and keys[4] == keys[5]
    assert len(set(keys)) == 6


ENDINGS = {
    "without a last word": stream(chunk("4"), LAST, USAGE),
    "that never ends": stream(chunk("4"), LAST, USAGE, end="hang"),
    "that hangs up": stream(chunk("4"), LAST, USAGE, end="close"),
    "that resets": stream(chunk("4"), LAST, USAGE, 0.1, end="reset"),
    "that ends in garbage": stream(chunk("4"), LAST, USAGE, "data: {\n\n"),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_a_whole_answer_is_taken_from_a_stream(server: BadServer, case: str) -> None:
    reply = ask(settings(server.url, ENDINGS[case], stream=True, deadline_s=20.0, idle_s=20.0))
    assert reply == Reply("4", Usage(12, 0, 3, 0))


USAGES: list[tuple[Any, Usage]] = [
    (None, Usage(4, 0, 25, 0)),
    ("many", Usage(4, 0, 25, 0)),
    ({}, Usage(4, 0, 25, 0)),
    ({"prompt_tokens": 9}, Usage(9, 0, 25, 0)),
    ({"prompt_tokens": -9, "completion_tokens": 20}, Usage(4, 0, 20, 0)),
    ({"prompt_tokens": "9", "completion_tokens": 20.0}, Usage(9, 0, 20, 0)),
    ({"prompt_tokens": "nine", "completion_tokens": 20.5}, Usage(4, 0, 25, 0)),
    ({"prompt_tokens": True, "completion_tokens": 0}, Usage(4, 0, 25, 0)),
    ({"prompt_tokens": 10**12, "completion_tokens": 65}, Usage(4, 0, 25, 0)),
    (TOLD | {"prompt_tokens_details": {"cached_tokens": 13}}, Usage(12, 0, 3, 0)),
    (TOLD | {"prompt_tokens_details": [8]}, Usage(12, 0, 3, 0)),
    (TOLD | {"completion_tokens_details": {"reasoning_tokens": 4}}, Usage(12, 0, 7, 4)),
    (TOLD | {"completion_tokens_details": {"reasoning_tokens": 62}}, Usage(12, 0, 3, 0)),
    (TOLD | {"completion_tokens_details": {"reasoning_tokens": math.nan}}, Usage(12, 0, 3, 0)),
]


@pytest.mark.parametrize(("told", "usage"), USAGES)
def test_usage_that_cannot_be_believed_is_estimated(
    server: BadServer, told: Any, usage: Usage
) -> None:
    reply = ask(settings(server.url, whole(body("x" * 100) | {"usage": told})))
    assert (reply.text, reply.usage) == ("x" * 100, usage)


def test_what_the_server_tells_is_not_counted_again(
    server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Answer, "estimate")
    assert ask(settings(server.url, whole(body()))).usage == Usage(12, 0, 3, 0)


def test_a_dialogue_is_estimated_by_its_own_characters(server: BadServer) -> None:
    """JSON would write each of them as six."""
    asked = settings(server.url, whole(body() | {"usage": None}), context_tokens=4096)
    said = tuple({"role": "user", "content": "数" * n} for n in (10, 310))
    short, long = (ask(asked, messages=(one,)).usage.input_tokens for one in said)
    assert long - short == 300


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


@pytest.mark.parametrize("text", ["人人生而自由", "የሰው ልጅ ሁሉ", "👩‍👩‍👧‍👦", "มนุษย์", "3141592653"])
def test_a_question_of_any_script_fits_into_the_context(server: BadServer, text: str) -> None:
    ask(settings(server.url, whole(body()), context_tokens=2000), f"begin {text * 5_000} end")
    sent = server.seen()["bodies"][0]["messages"][0]["content"]
    assert len(sent.encode()) + 64 + 300 <= 2000  # a token holds a byte or more
    assert sent.startswith("begin ") and sent.endswith(" end") and len(sent) > 300


def test_a_tokenizer_that_is_named_counts(server: BadServer, tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    limits = {"context_tokens": 1000, "tokenizer": str(tmp_path)}
    ask(settings(server.url, whole(body()), **limits), "word " * 400)
    ask(settings(server.url, whole(body()), **limits), "begin " + "word " * 10_000 + "end")
    whole_one, cut = (b["messages"][0]["content"] for b in server.seen()["bodies"])
    assert whole_one == "word " * 400
    assert cut.startswith("begin ") and cut.endswith("end") and "characters left out" in cut
    assert 380 < len(cut.split()) <= 1000 - 64 - 512
    told = whole(body("one two three") | {"usage": None})
    assert ask(settings(server.url, told, **limits), "a b c d").usage == Usage(4, 0, 3, 0)


def test_a_question_that_the_server_finds_too_long_is_cut_harder_and_sent_once_more(
    server: BadServer,
) -> None:
    message = "This model's maximum context length is 1000 tokens."
    refusal = whole({"error": {"message": message, "code": "context_length_exceeded"}})
    refusal |= {"status": 400}
    reply = ask(
        settings(server.url, whole(body()) | {"first": refusal}, context_tokens=1000), "x" * 5000
    )
    sizes = [len(sent["messages"][0]["content"]) for sent in server.seen()["bodies"]]
    assert reply.text == "4" and len(sizes) == 2 and sizes[1] <= 1000 - 64 - 512 < sizes[0]
    for question, requests in (("x" * 5000, 2), ("x", 1)):  # and not more often than it helps
        fault = fault_of_question(settings(server.url, refusal, context_tokens=1000), question)
        assert fault.kind is FaultKind.REJECTED and message in str(fault)
        assert len(server.seen()["bodies"]) == requests


def test_the_key_is_sent_to_its_endpoint_and_shown_nowhere(
    server: BadServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_ACCESS", "s3cret-value\n")
    script = whole({"error": {"message": "bad key s3cret-value"}}) | {"status": 401}
    fault = fault_of(settings(server.url, script, api_key_env="SHOP_ACCESS"))
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


def test_a_call_that_ran_out_of_time_leaves_no_connection(bad_server: BadServer) -> None:
    async def late_then_well() -> dict[str, Any]:
        model = EndpointModel(settings(bad_server.url, {"end": "hang"}, deadline_s=0.3))
        with pytest.raises(Fault):
            await model.call(request())
        seen = await asyncio.to_thread(bad_server.seen, after="hung_up")
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
        ({"tokenizer": "/no/such/folder"}, "tokenizer /no/such/folder: no tokenizer.json"),
        ({"tokenizer": "no-such/model-of-ours"}, "tokenizer no-such/model-of-ours: no tok"),
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
