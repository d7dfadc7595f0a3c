"""Settings of a model behind a chat endpoint, with the checks that need no request."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.token_count import TokenCounter, counter
from orchestra_ray.tracking.secrets import hide_url

TEMPLATE_TOKENS = 512  # upper bound on the tokens that the chat template adds
NO_KEY = "EMPTY"  # without a value the SDK would send OPENAI_API_KEY from the environment


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """One model and the endpoints that serve it; a call goes to the one with the fewest in flight.

    context_tokens: for prompt and answer together; the middle of a longer question is cut out.
    tokenizer: counts the model's tokens; a folder, a file or a name in the local Hub cache.
    first_token_s, idle_s: for a stream, the wait for its first token and between two chunks.
    A value of None is not sent, so the server's default holds.
    """

    base_urls: tuple[str, ...]
    model: str
    api_key_env: str | None = None
    system: str | None = None
    temperature: float | None = None
    max_output_tokens: int = 8192
    max_tokens_field: str = "max_tokens"  # newer OpenAI models require max_completion_tokens
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
        """Raises `ConfigError` if no endpoint could be called with these settings."""
        if not self.base_urls:
            raise ConfigError(f"{self.model}: no base_urls; name one endpoint at least")
        for url in self.base_urls:
            _check_url(self.model, url)
        question_tokens(self, counter(self.tokenizer))


def api_key(settings: EndpointSettings) -> str:
    """Returns the key, NO_KEY if none is configured; raises `ConfigError` if it is not set."""
    name = settings.api_key_env
    if name is None:
        return NO_KEY
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError(f"{settings.model}: the environment has no {name}; export it")
    return key


def question_tokens(settings: EndpointSettings, count: TokenCounter) -> int:
    """Returns how many tokens the context leaves for a question; `ConfigError` if none."""
    taken = settings.max_output_tokens + count.most(settings.system or "") + TEMPLATE_TOKENS
    if taken >= settings.context_tokens:
        raise ConfigError(
            f"{settings.model}: {settings.context_tokens} context_tokens leave no room for a"
            f" question beside {taken} for the answer and the system prompt; raise them"
        )
    return settings.context_tokens - taken


def _check_url(model: str, url: str) -> None:
    try:
        parts = httpx2.URL(url)
    except httpx2.InvalidURL:
        parts = httpx2.URL()
    if parts.scheme not in ("http", "https") or not parts.host:
        problem = f"base_url {hide_url(url)}: write it like http://host:8000/v1"
        raise ConfigError(f"{model}: {problem}")
