"""Web search by Tavily, through its own client. Absent without a key in TAVILY_API_KEY.

Every error of the service or the network is a `Fault`, which never contains the key. `base_url` can
name a proxy with the same interface.
"""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import tavily.errors
from tavily import AsyncTavilyClient

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.tracking.secrets import hide_url
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.endpoint.http_client import status_kind
from orchestra_ray.workers.tools.search.exchange import numbered, query_of

KEY = "TAVILY_API_KEY"
MAX_QUERY_CHARS = 400  # Tavily refuses a longer one
# Headers that the client sets from the environment; of it, only the key is sent.
_ENVIRONMENT_HEADERS = ("X-Project-ID", "X-Tavily-Orgid")


@dataclass(frozen=True, slots=True)
class WebSettings:
    base_url: str = "https://api.tavily.com"
    max_results: int = 5
    search_depth: Literal["basic", "advanced"] = "basic"  # "advanced" costs twice as much
    shown_chars: int = 1_000  # of a result in a reply
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            where = f"web search: base_url {hide_url(self.base_url)}"
            raise ConfigError(f"{where}: start it with https://")


def available() -> str | None:
    """Returns None if web search is available, else one line that says why not."""
    if os.environ.get(KEY, "").strip():
        return None
    return f"web search is absent: {KEY} is not set; export a key of tavily.com to offer it"


class WebSearchTool:
    """A `Tool` with the argument `query`; without it, the task's question is searched for."""

    def __init__(self, settings: WebSettings):
        if reason := available():
            raise ConfigError(reason)
        self._settings = settings
        self._http = httpx.AsyncClient(
            base_url=settings.base_url, event_hooks={"response": [_refuse]}
        )
        self._tavily = AsyncTavilyClient(os.environ[KEY].strip(), client=self._http)
        for header in _ENVIRONMENT_HEADERS:
            self._http.headers.pop(header, None)

    async def call(self, request: ToolRequest) -> Reply:
        answer = await self._search(query_of(request)[:MAX_QUERY_CHARS])
        return Reply(numbered(_results(answer), self._settings.shown_chars), Usage(searches=1))

    async def close(self) -> None:
        await self._http.aclose()

    async def _search(self, query: str) -> Mapping[str, Any]:
        timeout_s = self._settings.timeout_s
        try:
            async with asyncio.timeout(timeout_s):  # the client's applies to single reads
                return await self._tavily.search(
                    query,
                    max_results=self._settings.max_results,
                    search_depth=self._settings.search_depth,
                    timeout=timeout_s,
                )
        except (TimeoutError, tavily.errors.TimeoutError):
            message = f"web search: no answer in {timeout_s:g} s"
            raise Fault(FaultKind.TIMEOUT, message) from None
        except httpx.DecodingError:
            raise _unreadable() from None
        except httpx.RequestError as error:
            message = f"web search: no connection: {type(error).__name__}"
            sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise Fault(FaultKind.CONNECTION, message, sent=sent) from None
        except (ValueError, AttributeError, RecursionError):  # not JSON, or not an object
            raise _unreadable() from None


async def _refuse(response: httpx.Response) -> None:
    """Raises the `Fault` of a status, before the client's exception loses `Retry-After`."""
    status = response.status_code
    if status == httpx.codes.OK:
        return
    kind = FaultKind.DENIED if status in _DENIALS else status_kind(status)
    meaning = _DENIALS.get(status, httpx.codes.get_reason_phrase(status).lower())
    wait_s = response.headers.get("Retry-After", "")
    raise Fault(
        kind,
        f"web search: the service answered {status} {meaning}".rstrip(),
        retry_after_s=float(wait_s) if wait_s.isdecimal() else None,
    )


_DENIALS = {  # independent of the query
    401: f"the key in {KEY} is refused",
    432: "the plan's limit is used up",
    433: "the pay-as-you-go limit is used up",
}


def _results(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns (title with URL, content) of each result."""
    if "query" not in answer:  # Tavily echoes it; the client adds a list of results to any object
        raise _unreadable()
    try:
        return [
            (f"{result['title']} ({result['url']})", f"{result['content'] or ''}")
            for result in answer["results"]
        ]
    except (KeyError, TypeError):
        raise _unreadable() from None


def _unreadable() -> Fault:
    return Fault(FaultKind.BAD_REPLY, "web search: the answer cannot be read")
