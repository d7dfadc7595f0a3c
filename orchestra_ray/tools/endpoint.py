"""A model behind any OpenAI-compatible chat endpoint, asked the task's question.

Each call makes one request: the SDK's own retries are off, since the executor retries and charges
every attempt. Whatever goes wrong, from a refused connection to half a JSON, is one `Fault`, within
`deadline_s`. Tokens are estimated from characters; the server alone knows them.

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
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    AsyncOpenAI,
    AsyncStream,
    RequestOptions,
)

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.tools.completion import Answer, Unreadable, tokens
from orchestra_ray.tools.tool import Fault, FaultKind, Reply
from orchestra_ray.tools.transport import first_line, pool, retry_after_s, status_kind
from orchestra_ray.tracking.redact import Redactor, hide_url

PATH = "/chat/completions"
KEPT_CHARACTERS_PER_TOKEN = 3  # below the mean, so that a question that was cut does fit
TEMPLATE_TOKENS = 512  # at most, of what the server puts around the messages
BYTES_PER_TOKEN = 2048  # at most, of a streamed chunk that holds one token
SPARE_BYTES = 2**20
MESSAGE_CHARACTERS = 300
AFTER_FINISH_S = 1.0  # for the usage, once a stream has told how it ended
REST_S = 10.0  # of an endpoint that failed, while another is there
KEY_HEADER = "Idempotency-Key"
NO_KEY = "EMPTY"  # else the SDK sends the key of OpenAI's that the environment may hold
_FAILED = {FaultKind.CONNECTION, FaultKind.SERVER_ERROR, FaultKind.RATE_LIMITED}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """One model and the endpoints that serve it; the one with the fewest calls is asked.

    `context_tokens` holds prompt and answer; the middle of a question that does not fit is left
    out. None leaves a choice to the server. A stream is given up where it pauses for `idle_s`.
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
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """`ConfigError` where no endpoint could be asked like this."""
        if not self.base_urls:
            raise ConfigError(f"{self.model}: no base_urls; name one endpoint at least")
        for url in self.base_urls:
            _check_url(self.model, url)
        _room_characters(self)


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
        self._room = _room_characters(settings)
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

    async def close(self) -> None:
        await asyncio.gather(*(endpoint.client.close() for endpoint in self._endpoints))

    async def _ask(self, client: AsyncOpenAI, request: ToolRequest) -> Reply:
        messages, functions = self._messages(request), list(request.functions)
        contents = [str(message["content"]) for message in messages]
        sent = json.dumps([messages, functions]) if request.messages else "".join(contents)
        # A token of a byte-level vocabulary holds a byte at least.
        most_input = len(sent.encode()) + TEMPLATE_TOKENS
        most = Usage(input_tokens=most_input, output_tokens=self._settings.max_output_tokens)
        answer = Answer()
        try:
            body = self._body(messages, functions)
            await self._fill(answer, client, body, self._once(request, sent))
            text = self._text(answer, request)
        except Fault as fault:
            fault.usage = answer.usage(most) if answer.figures else None
            raise
        usage = answer.usage(most, answer.estimate(len(sent), most))
        if usage != answer.usage(most):
            self._warn_of_usage(answer)
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

    def _messages(self, request: ToolRequest) -> list[Mapping[str, Any]]:
        system = self._settings.system
        before = [{"role": "system", "content": system}] if system else []
        if request.messages:
            return [*before, *request.messages]
        # Half of a surrogate pair, which JSON can hold, cannot be sent.
        question = cut_middle(request.task.question, self._room)
        content = question.encode(errors="replace").decode()
        return [*before, {"role": "user", "content": content}]

    def _body(
        self, messages: list[Mapping[str, Any]], functions: list[Mapping[str, Any]]
    ) -> dict[str, Any]:
        settings = self._settings
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
        self, answer: Answer, client: AsyncOpenAI, body: dict[str, Any], once: RequestOptions
    ) -> None:
        """Asks, and gathers what comes into `answer`; `Fault` where it does not come to an end."""
        settings = self._settings
        ends_at = asyncio.get_running_loop().time() + settings.deadline_s
        try:
            async with asyncio.timeout_at(ends_at) as limit:
                if settings.stream:
                    await self._gather(answer, client, body, once, limit, ends_at)
                else:
                    answer.add(await client.post(PATH, body=body, options=once, cast_to=object))
        except TimeoutError:
            fault = self._timeout(answer, ends_at)
        except APIError as error:
            fault = self._fault(error)
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
        self,
        answer: Answer,
        client: AsyncOpenAI,
        body: dict[str, Any],
        once: RequestOptions,
        limit: asyncio.Timeout,
        ends_at: float,
    ) -> None:
        """Reads a stream to its end and sets `limit` anew with what comes."""
        settings, clock = self._settings, asyncio.get_running_loop().time
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

    def _text(self, answer: Answer, request: ToolRequest) -> str:
        """What the policy reads; if the model is the policy, its turn. `Fault` if it is empty."""
        settings = self._settings
        refusal = "".join(answer.refusal)
        if answer.finish_reason == "content_filter" or refusal:
            raise Fault(FaultKind.REJECTED, refusal or "the provider's content filter refused it")
        turn = answer.turn(settings.strip_thinking) if request.messages else None
        text = answer.text(settings.strip_thinking) if turn is None else turn.said
        cut = answer.finish_reason == "length"
        if not text and not (turn and turn.calls):
            why = f"stopped at its {settings.max_output_tokens} tokens" if cut else "was empty"
            raise Fault(FaultKind.BAD_REPLY, f"the answer {why}")
        text += f"\n[cut at {settings.max_output_tokens} tokens]" if cut else ""
        return text if turn is None else replace(turn, said=text).dump()

    def _timeout(self, answer: Answer, ends_at: float) -> Fault:
        settings = self._settings
        if asyncio.get_running_loop().time() >= ends_at:
            text = f"no answer within {settings.deadline_s:g} s"
        elif answer.started:
            text = f"the answer stopped for {settings.idle_s:g} s"
        else:
            text = f"no first word within {settings.first_token_s:g} s"
        return Fault(FaultKind.TIMEOUT, text)

    def _fault(self, error: APIError) -> Fault:
        if isinstance(error, APIConnectionError):
            cause = type(error.__cause__ or error).__name__
            return Fault(FaultKind.CONNECTION, f"the connection failed: {cause}")
        code = error.code or ""
        status, headers = int(code) if code.isdecimal() else 500, {}  # of an error in a stream
        if isinstance(error, APIStatusError):
            status, headers = error.status_code, error.response.headers
        kind = status_kind(status)
        if code == "insufficient_quota":  # a 429 that no waiting heals
            kind = FaultKind.DENIED
        line = self._redactor.text(first_line(error.body))[:MESSAGE_CHARACTERS]
        return Fault(kind, f"{status}: {line}", retry_after_s=retry_after_s(headers))


def cut_middle(text: str, characters: int) -> str:
    """`text`, its middle left out where it is longer than `characters`, with a mark."""
    if len(text) <= characters:
        return text
    mark = f"\n[... {len(text) - characters} characters left out ...]\n"
    kept = max(0, characters - len(mark))
    return text[: kept - kept // 2] + mark + text[len(text) - kept // 2 :]


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


def _room_characters(settings: EndpointSettings) -> int:
    """How long a question may be."""
    taken = settings.max_output_tokens + tokens(len(settings.system or "")) + TEMPLATE_TOKENS
    if taken >= settings.context_tokens:
        raise ConfigError(
            f"{settings.model}: {settings.context_tokens} context_tokens leave no room for a"
            f" question beside {taken} for the answer and the system prompt; raise them"
        )
    return (settings.context_tokens - taken) * KEPT_CHARACTERS_PER_TOKEN
