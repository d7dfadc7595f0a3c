"""A model behind any OpenAI-compatible chat endpoint, asked the task's question.

Each call makes one request: the SDK's own retries are off, since the executor retries and charges
every attempt. Only a question that the server refuses for its length, which costs nothing, is cut
harder and sent once more. Whatever goes wrong, from a refused connection to half a JSON, is one
`Fault`, within `deadline_s`. Tokens are counted as `token_count` says.

All attempts of a call carry one `Idempotency-Key`, by which a server that knows such keys answers
and bills once. None that does not is harmed by it.
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
from dataclasses import dataclass, field, replace
from typing import Any

import httpx2
from openai import APIError, AsyncOpenAI, AsyncStream, RequestOptions

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.core.token_count import Count, TokenCounter, byte_count, counter, cut_to_fit
from orchestra_ray.tracking.redact import Redactor
from orchestra_ray.tracking.secrets import hide_url
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
    told_fault,
)
from orchestra_ray.workers.tools.endpoint.http_client import pool

PATH = "/chat/completions"
TEMPLATE_TOKENS = 512  # at most, of what the server puts around the messages
BYTES_PER_TOKEN = 2048  # at most, of a streamed chunk that holds one token
SPARE_BYTES = 2**20
AFTER_FINISH_S = 1.0  # for the usage, once a stream has told how it ended
REST_S = 10.0  # of an endpoint that failed, while another is there
KEY_HEADER = "Idempotency-Key"
NO_KEY = "EMPTY"  # else the SDK sends the key of OpenAI's that the environment may hold
MOST_BYTES_PER_CHARACTER = 4
_FAILED = {FaultKind.CONNECTION, FaultKind.SERVER_ERROR, FaultKind.RATE_LIMITED}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """One model and the endpoints that serve it; the one with the fewest calls is asked.

    `context_tokens` holds prompt and answer; the middle of a question that does not fit is left
    out. `tokenizer` counts its tokens: a folder or file, or a name that the local Hub cache has.
    None leaves a choice to the server. A stream is given up where it pauses for `idle_s`.
    """

    base_urls: tuple[str, ...]
    model: str
    api_key_env: str | None = None
    system: str | None = None
    temperature: float | None = None
    max_output_tokens: int = 8192
    max_tokens_field: str = "max_tokens"  # newer models of OpenAI's ask for max_completion_tokens
    context_tokens: int = 32_768
    connect_s: float = 5.0
    deadline_s: float = 120.0
    stream: bool = False
    first_token_s: float = 60.0
    idle_s: float = 20.0
    strip_thinking: bool = True
    tokenizer: str | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """`ConfigError` where no endpoint could be asked like this."""
        if not self.base_urls:
            raise ConfigError(f"{self.model}: no base_urls; name one endpoint at least")
        for url in self.base_urls:
            _check_url(self.model, url)
        _room(self, counter(self.tokenizer))


@dataclass(slots=True)
class _Endpoint:
    client: AsyncOpenAI
    in_flight: int = 0
    rests_until: float = -math.inf


class EndpointModel:
    """A `Tool`. One client, with its pool of connections, for each endpoint."""

    def __init__(self, settings: EndpointSettings):
        settings.check()
        self._settings = settings
        self._counter = counter(settings.tokenizer)
        self._room = _room(settings, self._counter)
        key = _api_key(settings)
        self._redactor = Redactor.of(os.environ, known=[key])
        self._endpoints = [_Endpoint(_client(settings, url, key)) for url in settings.base_urls]
        self._warned = False
        self._life = secrets.token_hex(16)  # in the keys: another run has calls of the same names

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
        """Sends a request for one token to each endpoint; the fault of each, None if it answers."""
        asked = replace(self._settings, deadline_s=deadline_s, stream=False, max_output_tokens=1)
        body = _body(asked, [{"role": "user", "content": "Hi"}], [])

        async def fault_at(client: AsyncOpenAI) -> Fault | None:
            try:
                await _fill(asked, Answer(), client, body, {}, self._redactor)
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
            if request.messages or byte_count(request.task.question) <= self._room:
                raise
            return await self._ask_once(client, request, byte_count)

    async def _ask_once(self, client: AsyncOpenAI, request: ToolRequest, count: Count) -> Reply:
        messages, functions = await self._messages(request, count), list(request.functions)
        contents = [str(message["content"]) for message in messages]
        dialogue = [messages, functions] if request.messages else None
        sent = json.dumps(dialogue, ensure_ascii=False) if dialogue else "".join(contents)
        # A token of a byte-level vocabulary holds a byte at least; some templates escape JSON.
        most_input = TEMPLATE_TOKENS + len(json.dumps(dialogue) if dialogue else sent.encode())
        most = Usage(input_tokens=most_input, output_tokens=self._settings.max_output_tokens)
        answer = Answer()
        try:
            body = _body(self._settings, messages, functions)
            once = self._once(request, sent)
            await _fill(self._settings, answer, client, body, once, self._redactor)
            text = self._text(answer, request)
        except Fault as fault:
            fault.usage = answer.usage(most) if answer.figures else None
            raise
        usage = answer.usage(most)
        if not (usage.input_tokens and usage.output_tokens):
            self._warn_of_usage(answer)
            # In a thread: a tokenizer takes its time over a long text.
            guess = await asyncio.to_thread(answer.estimate, sent, most, self._counter.usual)
            usage = answer.usage(most, guess)
        return Reply(text, usage)

    def _once(self, request: ToolRequest, sent: str) -> RequestOptions:
        """The key of this call; a recipe may send a model more than one question in one."""
        words = f"{self._life}/{request.call_id}/{sent}".encode(errors="replace")
        return {"headers": {KEY_HEADER: hashlib.sha256(words).hexdigest()}}

    def _warn_of_usage(self, answer: Answer) -> None:
        if not self._warned:
            self._warned = True
            told, model = dict(answer.figures), self._settings.model
            logger.warning("%s tells no usage to believe (%.200s): it is estimated", model, told)

    async def _messages(self, request: ToolRequest, count: Count) -> list[Mapping[str, Any]]:
        system = self._settings.system
        before = [{"role": "system", "content": system}] if system else []
        if request.messages:
            return [*before, *request.messages]
        question = request.task.question
        if len(question) * MOST_BYTES_PER_CHARACTER > self._room:  # else it fits anyway
            # In a thread: a tokenizer takes its time over a long text.
            question = await asyncio.to_thread(cut_to_fit, question, self._room, count)
        # Half of a surrogate pair, which JSON can hold, cannot be sent.
        content = question.encode(errors="replace").decode()
        return [*before, {"role": "user", "content": content}]

    def _text(self, answer: Answer, request: ToolRequest) -> str:
        """What the policy reads; if the model is the policy, its turn. `Fault` if it is empty."""
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
    once: RequestOptions,
    redactor: Redactor,
) -> None:
    """Asks, and gathers what comes into `answer`; `Fault` where it does not come to an end."""
    ends_at = asyncio.get_running_loop().time() + settings.deadline_s
    try:
        async with asyncio.timeout_at(ends_at) as limit:
            if settings.stream:
                await _gather(settings, answer, client, body, once, limit, ends_at)
            else:
                answer.add(await client.post(PATH, body=body, options=once, cast_to=object))
    except TimeoutError:
        fault = _timeout(settings, answer, ends_at)
    except APIError as error:
        fault = fault_of(error, redactor)
    except ErrorInAnswer as error:
        fault = told_fault(error.error, redactor)
    except Unreadable as error:
        fault = Fault(FaultKind.BAD_REPLY, f"the answer cannot be read: {error}")
    except (ValueError, RecursionError):
        fault = Fault(FaultKind.BAD_REPLY, "the answer is not JSON")
    else:
        fault = Fault(FaultKind.BAD_REPLY, "the answer stopped in the middle")
        if not settings.stream:
            return
    # Once a stream has told how the answer ended, nothing after it can spoil the answer.
    if answer.finish_reason is None:
        raise fault


async def _gather(
    settings: EndpointSettings,
    answer: Answer,
    client: AsyncOpenAI,
    body: dict[str, Any],
    once: RequestOptions,
    limit: asyncio.Timeout,
    ends_at: float,
) -> None:
    """Reads a stream to its end and sets `limit` anew with what comes."""
    clock = asyncio.get_running_loop().time
    limit.reschedule(min(ends_at, clock() + settings.first_token_s))
    stream = await client.post(
        PATH,
        body=body,
        options=once,
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
        text = f"no first word within {settings.first_token_s:g} s"
    return Fault(FaultKind.TIMEOUT, text)


def _check_url(model: str, url: str) -> None:
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL:
        parts = httpx2.URL()
    if parts.scheme not in ("http", "https") or not parts.host:
        problem = f"base_url {hide_url(url)}: write it like http://host:8000/v1"
        raise ConfigError(f"{model}: {problem}")


def _client(settings: EndpointSettings, url: str, key: str) -> AsyncOpenAI:
    """A client that sends nothing of the environment but the key that its entry names."""
    limit_bytes = SPARE_BYTES + settings.max_output_tokens * BYTES_PER_TOKEN
    client = AsyncOpenAI(
        api_key=key,
        base_url=url,
        max_retries=0,
        http_client=pool(settings.connect_s, limit_bytes),
    )
    # Each stands for None in the constructor's arguments, and then the SDK asks the environment.
    client.organization = client.project = client.admin_api_key = client.webhook_secret = None
    client._custom_headers = {}  # of OPENAI_CUSTOM_HEADERS, which nothing public leaves out
    return client


def _api_key(settings: EndpointSettings) -> str:
    name = settings.api_key_env
    if name is None:
        return NO_KEY
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(f"{settings.model}: the environment has no {name}; export it")
    return key


def _room(settings: EndpointSettings, count: TokenCounter) -> int:
    """How many tokens a question may have."""
    taken = settings.max_output_tokens + count.most(settings.system or "") + TEMPLATE_TOKENS
    if taken >= settings.context_tokens:
        raise ConfigError(
            f"{settings.model}: {settings.context_tokens} context_tokens leave no room for a"
            f" question beside {taken} for the answer and the system prompt; raise them"
        )
    return settings.context_tokens - taken
