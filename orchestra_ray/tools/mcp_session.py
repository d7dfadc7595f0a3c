"""One session with an MCP server, in a task of its own.

The client's cancel scopes must be left by the task that entered them, and no caller's end may take
the session along: so the task connects, waits until it is told to end, and disconnects. A server
that is a command gets the variables that are named for it and those that the SDK deems harmless
(HOME, LOGNAME, PATH, SHELL, TERM, USER), no others; of its stderr the end is kept.

Results are validated against the schema that the server states for them, within the bounds of
`catalogue.schemas`: the SDK fetches nothing for it either, and sets no bounds.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import anyio
from mcp import Client, MCPError, StdioServerParameters, stdio_client, types
from mcp.client.streamable_http import streamable_http_client

from orchestra_ray.catalogue.schemas import BoundedValidator
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.tools.tool import Fault, FaultKind
from orchestra_ray.tools.transport import pool

ANSWER_S = 5.0  # at most, for a server to show that it is still there
KEPT_BYTES = 4096
LIMIT_BYTES = 16 * 2**20  # of one reply over HTTP
PAGES_MAX = 100

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class McpSettings:
    """How a server is reached: by `command` or by `url`.

    `env` is set for the command as it stands; `env_from` names variables that are handed on, and
    `token_env` the one whose value is sent to a URL as a bearer token.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    env_from: tuple[str, ...] = ()
    token_env: str | None = None
    cwd: str | None = None
    connect_s: float = 30.0
    deadline_s: float = 60.0

    def check(self) -> None:
        """`ConfigError` where no server could be reached like this."""
        if bool(self.command) == bool(self.url):
            raise ConfigError(f"MCP server {self.name}: give it a command or a url, one of them")

    def handed_on(self) -> Mapping[str, str]:
        """The variables that the server gets from this environment."""
        names = (*self.env_from, self.token_env) if self.token_env else self.env_from
        for name in names:
            if name not in os.environ:
                raise ConfigError(f"MCP server {self.name}: the environment has no {name}")
        return {name: os.environ[name] for name in names}


class Session:
    """Connects at once. When `settled` is set, `client` is there or `fault` says why not."""

    def __init__(self, settings: McpSettings, hide: Callable[[str], str]):
        """`hide` takes the secrets out of what the log gets."""
        self._settings, self._hide = settings, hide
        self.settled, self._end = asyncio.Event(), asyncio.Event()
        self.fault: Fault | None = None
        self.tools: Mapping[str, types.Tool] = {}
        self.suspect = False  # a call failed: it may be over
        self._client: Client | None = None
        self._validators: dict[str, BoundedValidator] = {}  # of results, by tool
        self._words = _Tail()
        self.task = asyncio.get_running_loop().create_task(self._live())

    @property
    def client(self) -> Client:
        assert self._client is not None, "a session is used once it has settled without a fault"
        return self._client

    @property
    def last_words(self) -> str:
        """The end of what the server wrote to its stderr."""
        return self._words.text

    def end(self) -> None:
        """Lets the task disconnect, and end a server that it started."""
        self._end.set()

    async def answers(self) -> bool:
        """Whether a call can be tried: asks the server where the last one failed."""
        if self.task.done() or not self.suspect or self._client is None:
            return not self.task.done()
        try:
            # Less than a call has: else each would run out of time before it knew.
            async with asyncio.timeout(min(ANSWER_S, self._settings.deadline_s / 2)):
                await self._client.list_tools(cache_mode="bypass")
        except (MCPError, TimeoutError, anyio.ClosedResourceError, anyio.BrokenResourceError):
            return False
        self.suspect = False
        return True

    async def _live(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._settings.connect_s):
                    client = await self._connect(stack)
                    self.tools = await _list_all(client)
                client.session.validate_tool_result = self._check_result
                self._client = client
                self.settled.set()
                await self._end.wait()
        except Exception as error:  # a transport raises what it likes, in groups of groups
            self.fault = self._fault(error)
            words = self._hide(f"{self.fault}; its last words: {self.last_words}")
            logger.warning("%s", words)
        finally:
            self.settled.set()
            self._words.close()

    async def _connect(self, stack: AsyncExitStack) -> Client:
        settings = self._settings
        if settings.url is None:
            command, *arguments = settings.command
            parameters = StdioServerParameters(
                command=command,
                args=arguments,
                env={**settings.env, **settings.handed_on()},
                cwd=settings.cwd,
                encoding_error_handler="replace",
            )
            transport = stdio_client(parameters, errlog=self._words.file)
        else:
            token = settings.handed_on().get(settings.token_env or "")
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            http = await stack.enter_async_context(pool(settings.connect_s, LIMIT_BYTES, headers))
            transport = streamable_http_client(settings.url, http_client=http)
        return await stack.enter_async_context(Client(transport))

    async def _check_result(self, name: str, result: types.CallToolResult) -> None:
        """In place of the SDK's: raises RuntimeError, as that does."""
        schema = self.tools[name].output_schema if name in self.tools else None
        if schema is None:
            return
        if result.structured_content is None:
            raise RuntimeError(f"{name} gave no structured result, and its schema promises one")
        try:
            if name not in self._validators:
                self._validators[name] = BoundedValidator(schema)
            error = self._validators[name].first_error(result.structured_content)
        except Exception as problem:  # the library raises what it likes
            why = f"{type(problem).__name__}: {problem}"
            raise RuntimeError(f"the schema of {name}'s results cannot be used ({why})") from None
        if error is not None:
            raise RuntimeError(f"{name} gave a result against its own schema: {error.message}")

    def _fault(self, error: BaseException) -> Fault:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        name = self._settings.name
        if isinstance(error, TimeoutError):
            text = f"{name} did not answer within {self._settings.connect_s:g} s"
            return Fault(FaultKind.CONNECTION, text)
        # A command that is not there will not be there on the next try either.
        absent = isinstance(error, OSError) and not isinstance(error, ConnectionError)
        kind = FaultKind.UNAVAILABLE if absent else FaultKind.CONNECTION
        return Fault(kind, f"{name} cannot be reached: {type(error).__name__}: {error}")


async def _list_all(client: Client) -> Mapping[str, types.Tool]:
    tools: dict[str, types.Tool] = {}
    cursor = None
    for _ in range(PAGES_MAX):
        page = await client.list_tools(cursor=cursor)
        tools |= {tool.name: tool for tool in page.tools}
        cursor = page.next_cursor
        if cursor is None:
            break
    return tools


class _Tail:
    """The last bytes of what is written to `file`, whose writer never waits for a reader."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        self.file = os.fdopen(write, "w")
        self._kept = b""
        asyncio.get_running_loop().add_reader(self._read, self._take)

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace").strip()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._read)
        self._take()
        os.close(self._read)
        self.file.close()

    def _take(self) -> None:
        try:
            self._kept = (self._kept + os.read(self._read, 65_536))[-KEPT_BYTES:]
        except BlockingIOError:
            pass
