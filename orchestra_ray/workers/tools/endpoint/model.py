"""A tool that sends the task's question to a model behind an OpenAI-compatible chat endpoint.

- A call makes one request. The SDK's retries are off, since the executor retries and charges every
  attempt. Exception: a question that the server refuses for its length, which costs nothing, is cut
  to a stricter bound and sent once more.
- Every error, from a refused connection to truncated JSON, is raised as one `Fault`, within
  `deadline_s`.
- All attempts of a call carry the same `Idempotency-Key`, so that a server that supports it bills
  the call once. Other servers ignore the header.
- Tokens are counted by `core.token_count`.
"""

import asyncio
import hashlib
import json
import logging
import math
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from openai import APIError, AsyncOpenAI, AsyncStream, RequestOptions

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.core.token_count import Count, byte_count, counter, cut_to_fit
from orchestra_ray.tracking.redact import Redactor
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.endpoint.completion import (
    Answer,
    Ending,
    ErrorInAnswer,
    Unreadable,
)
from orchestra_ray.workers.tools.endpoint.faults import (
    MESSAGE_CHARACTERS,
    TooLong,
    fault_of,
    reported_fault,
)
from orchestra_ray.workers.tools.endpoint.http_client import pool
from orchestra_ray.workers.tools.endpoint.settings import (
    TEMPLATE_TOKENS,
    EndpointSettings,
    api_key,
    question_tokens,
)

PATH = "/chat/completions"
BYTES_PER_TOKEN = 2048  # upper bound on a streamed chunk that holds one token
SPARE_BYTES = 2**20
AFTER_FINISH_S = 1.0  # wait for the usage after the finish reason of a stream
REST_S = 10.0  # for which other endpoints are preferred to a failed one
KEY_HEADER = "Idempotency-Key"
MOST_BYTES_PER_CHARACTER = 4
_FAILED = {FaultKind.CONNECTION, FaultKind.SERVER_ERROR, FaultKind.RATE_LIMITED}

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Endpoint:
    client: AsyncOpenAI
    in_flight: int = 0
    rests_until: float = -math.inf


class EndpointModel:
    """A `Tool` with one client, and so one connection pool, for each endpoint."""

    def __init__(self, settings: EndpointSettings):
        settings.check()
        self._settings = settings
        self._counter = counter(settings.tokenizer)
        self._question_tokens = question_tokens(settings, self._counter)
        key = api_key(settings)
        self._redactor = Redactor.of(os.environ, known=[key])
        self._endpoints = [_Endpoint(_client(settings, url, key)) for url in settings.base_urls]
        self._warned = False
        self._instance = secrets.token_hex(16)  # in the keys, since call ids repeat across runs

    async def call(self, request: ToolRequest) -> Reply:
        now = time.monotonic()
        endpoint = min(self._endpoints, key=lambda one: (one.rests_until > now, one.in_flight))
        endpoint.in_flight += 1
        try:
            return await self._ask(endpoint.client, request)
        except Fault as fault:
            if fault.kind in _FAILED:
                endpoint.rests_until = time.monotonic() + (fault.retry_after_s or REST_S)
            raise
        finally:
            endpoint.in_flight -= 1

    async def probe(self, deadline_s: float) -> list[Fault | None]:
        """Requests one token from each endpoint; returns the fault of each, None for success."""
        settings = replace(self._settings, deadline_s=deadline_s, stream=False, max_output_tokens=1)
        body = _body(settings, [{"role": "user", "content": "Hi"}], [])

        async def fault_at(client: AsyncOpenAI) -> Fault | None:
            try:
                await _fill(settings, Answer(), client, body, {}, self._redactor)
            except Fault as fault:
                return fault
            return None

        return await asyncio.gather(*(fault_at(one.client) for one in self._endpoints))

    async def close(self) -> None:
        await asyncio.gather(*(endpoint.client.close() for endpoint in self._endpoints))

    async def _ask(self, client: AsyncOpenAI, request: ToolRequest) -> Reply:
        try:
            return await self._ask_once(client, request, self._counter.most)
        except TooLong:
            if request.messages or byte_count(request.task.question) <= self._question_tokens:
                raise
            return await self._ask_once(client, request, byte_count)

    async def _ask_once(self, client: AsyncOpenAI, request: ToolRequest, count: Count) -> Reply:
        messages, functions = await self._messages(request, count), list(request.functions)
        contents = [str(message["content"]) for message in messages]
        dialogue = [messages, functions] if request.messages else None
        sent = json.dumps(dialogue, ensure_ascii=False) if dialogue else "".join(contents)
        # A token of a byte-level vocabulary is one byte or more; some templates escape JSON.
        most_input = TEMPLATE_TOKENS + len(json.dumps(dialogue) if dialogue else sent.encode())
        most = Usage(input_tokens=most_input, output_tokens=self._settings.max_output_tokens)
        answer = Answer()
        try:
            body = _body(self._settings, messages, functions)
            options = self._options(request, sent)
            await _fill(self._settings, answer, client, body, options, self._redactor)
            text = self._text(answer, request)
        except Fault as fault:
            fault.usage = answer.usage(most) if answer.figures else None
            raise
        usage = answer.usage(most)
        if not (usage.input_tokens and usage.output_tokens):
            self._warn_about_usage(answer)
            # In a thread, since a tokenizer would block the event loop over a long text.
            guess = await asyncio.to_thread(answer.estimate, sent, most, self._counter.usual)
            usage = answer.usage(most, guess)
        return Reply(text, usage)

    def _options(self, request: ToolRequest, sent: str) -> RequestOptions:
        """Returns the idempotency key; the text is in it, as a recipe may ask twice in one call."""
        key = f"{self._instance}/{request.call_id}/{sent}".encode(errors="replace")
        return {"headers": {KEY_HEADER: hashlib.sha256(key).hexdigest()}}

    def _warn_about_usage(self, answer: Answer) -> None:
        if not self._warned:
            self._warned = True
            reported, model = dict(answer.figures), self._settings.model
            logger.warning("%s: implausible usage (%.200s); estimating it", model, reported)

    async def _messages(self, request: ToolRequest, count: Count) -> list[Mapping[str, Any]]:
        system = self._settings.system
        before = [{"role": "system", "content": system}] if system else []
        if request.messages:
            return [*before, *request.messages]
        question = request.task.question
        if len(question) * MOST_BYTES_PER_CHARACTER > self._question_tokens:  # else it fits
            # In a thread, since a tokenizer would block the event loop over a long text.
            question = await asyncio.to_thread(cut_to_fit, question, self._question_tokens, count)
        # A lone surrogate, which JSON can hold, cannot be encoded.
        content = question.encode(errors="replace").decode()
        return [*before, {"role": "user", "content": content}]

    def _text(self, answer: Answer, request: ToolRequest) -> str:
        """Returns the answer, or the dumped `PolicyTurn` if the model is the policy.

        Raises `Fault` if the answer is empty, refused or incomplete.
        """
        settings = self._settings
        refusal, ending = "".join(answer.refusal), answer.ending
        if ending is Ending.FILTERED or refusal:
            raise Fault(FaultKind.REJECTED, refusal or "the provider's content filter refused it")
        if ending in (Ending.FAILED, Ending.UNKNOWN):
            kind = FaultKind.SERVER_ERROR if ending is Ending.FAILED else FaultKind.BAD_REPLY
            reason = str(answer.finish_reason)[:MESSAGE_CHARACTERS]
            raise Fault(kind, f"the answer is not whole: its finish reason is {reason}")
        turn = answer.turn(settings.strip_thinking) if request.messages else None
        text = answer.text(settings.strip_thinking) if turn is None else turn.said
        cut = ending is Ending.CUT
        if not text and not (turn and turn.calls):
            why = f"stopped at its {settings.max_output_tokens} tokens" if cut else "was empty"
            raise Fault(FaultKind.BAD_REPLY, f"the answer {why}")
        text += f"\n[cut at {settings.max_output_tokens} tokens]" if cut else ""
        return text if turn is None else replace(turn, said=text).dump()


def _body(
    settings: EndpointSettings,
    messages: list[Mapping[str, Any]],
    functions: list[Mapping[str, Any]],
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": messages,
        settings.max_tokens_field: settings.max_output_tokens,
    }
    if functions:
        body["tools"] = functions
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    if settings.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body | dict(settings.extra_body)


async def _fill(
    settings: EndpointSettings,
    answer: Answer,
    client: AsyncOpenAI,
    body: dict[str, Any],
    options: RequestOptions,
    redactor: Redactor,
) -> None:
    """Sends the request and adds what arrives to `answer`; `Fault` if it is incomplete."""
    ends_at = asyncio.get_running_loop().time() + settings.deadline_s
    try:
        async with asyncio.timeout_at(ends_at) as limit:
            if settings.stream:
                await _read_stream(settings, answer, client, body, options, limit, ends_at)
            else:
                answer.add(await client.post(PATH, body=body, options=options, cast_to=object))
    except TimeoutError:
        fault = _timeout(settings, answer, ends_at)
    except APIError as error:
        fault = fault_of(error, redactor)
    except ErrorInAnswer as error:
        fault = reported_fault(error.error, redactor)
    except Unreadable as error:
        fault = Fault(FaultKind.BAD_REPLY, f"the answer cannot be read: {error}")
    except (ValueError, RecursionError):
        fault = Fault(FaultKind.BAD_REPLY, "the answer is not JSON")
    else:
        fault = Fault(FaultKind.BAD_REPLY, "the answer stopped in the middle")
        if not settings.stream:
            return
    # After the finish reason the answer is complete, so later errors of the stream don't matter.
    if answer.finish_reason is None:
        raise fault


async def _read_stream(
    settings: EndpointSettings,
    answer: Answer,
    client: AsyncOpenAI,
    body: dict[str, Any],
    options: RequestOptions,
    limit: asyncio.Timeout,
    ends_at: float,
) -> None:
    """Reads a stream to its end and reschedules `limit` at each chunk."""
    clock = asyncio.get_running_loop().time
    limit.reschedule(min(ends_at, clock() + settings.first_token_s))
    stream = await client.post(
        PATH,
        body=body,
        options=options,
        cast_to=object,
        stream=True,
        stream_cls=AsyncStream[object],
    )
    async with stream:
        async for chunk in stream:
            answer.add(chunk)
            if answer.finish_reason:
                limit.reschedule(min(ends_at, clock() + AFTER_FINISH_S))
            elif answer.started:
                limit.reschedule(min(ends_at, clock() + settings.idle_s))


def _timeout(settings: EndpointSettings, answer: Answer, ends_at: float) -> Fault:
    if asyncio.get_running_loop().time() >= ends_at:
        text = f"no answer within {settings.deadline_s:g} s"
    elif answer.started:
        text = f"the answer stopped for {settings.idle_s:g} s"
    else:
        text = f"no first token within {settings.first_token_s:g} s"
    return Fault(FaultKind.TIMEOUT, text)


def _client(settings: EndpointSettings, url: str, key: str) -> AsyncOpenAI:
    """Returns a client that takes no setting but `key` from the environment."""
    limit_bytes = SPARE_BYTES + settings.max_output_tokens * BYTES_PER_TOKEN
    client = AsyncOpenAI(
        api_key=key,
        base_url=url,
        max_retries=0,
        http_client=pool(settings.connect_s, limit_bytes),
    )
    # The constructor replaces a None by the environment's value, so these are cleared afterwards.
    client.organization = client.project = client.admin_api_key = client.webhook_secret = None
    client._custom_headers = {}  # from OPENAI_CUSTOM_HEADERS; no public argument disables them
    return client
