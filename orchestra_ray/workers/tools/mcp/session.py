"""One session with an MCP server, in a task of its own.

The client's cancel scopes must be left by the task that entered them, and no caller's end may take
the session along: so the task connects, waits until it is told to end, and disconnects. A server
that is a command gets the variables that are named for it and those that the SDK deems harmless
(HOME, LOGNAME, PATH, SHELL, TERM, USER), no others; of its stderr the end is kept.

Results are validated against the schema that the server states for them, within the bounds of
`catalogue.schemas`: the SDK fetches nothing for it either, and sets no bounds. A result that takes
more than these bounds passes: it is large, and not known to be wrong.

When the server says that its tools have changed, they are listed anew beside the calls in flight.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import anyio
from mcp import Client, MCPError, types
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.data.catalogue.schemas import BoundedValidator, TooMuch
from orchestra_ray.workers.tools.endpoint.http_client import pool
from orchestra_ray.workers.tools.mcp.http import fault_of, response_hook
from orchestra_ray.workers.tools.mcp.listing import ReadablePages, list_pages
from orchestra_ray.workers.tools.mcp.stdio import stdio_transport

ANSWER_S = 5.0  # at most, for a server to show that it is still there
KEPT_BYTES = 4096
LIMIT_BYTES = 40 * 2**20  # of one answer: a text of 16 MiB that is told twice, as text and as data
LISTEN_AGAIN_S = 5.0  # after a subscription was lost

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
        self._changed = asyncio.Event()
        self.listed = asyncio.Event()  # since the server last said that its tools changed
        self.fault: Fault | None = None
        self.tools: Mapping[str, types.Tool] = {}
        self.names: frozenset[str] = frozenset()  # of all tools, those that cannot be read too
        self.problems: Mapping[str, str] = {}  # why a tool cannot be read
        self.former_names: frozenset[str] = frozenset()
        self._pages = ReadablePages()
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
        except MCPError as error:
            fault = fault_of(error, self._settings.name)
            return fault is not None and fault.kind is FaultKind.RATE_LIMITED
        except (TimeoutError, anyio.ClosedResourceError, anyio.BrokenResourceError):
            return False
        self.suspect = False
        return True

    async def _live(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._settings.connect_s):
                    client = await self._connect(stack)
                    self._pages.version = lambda: client.protocol_version
                    await self._list(client)
                client.session.validate_tool_result = self._check_result
                self._client = client
                self.settled.set()
                if not self._changed.is_set():
                    self.listed.set()
                await self._follow_until_end(client)
        except Exception as error:  # a transport raises what it likes, in groups of groups
            self.fault = self._fault(error)
            words = f"; its last words: {self.last_words}" if self.last_words else ""
            logger.warning("%s", self._hide(f"{self.fault}{words}"))
        finally:
            self.settled.set()
            self.listed.set()
            self._words.close()

    async def _connect(self, stack: AsyncExitStack) -> Client:
        settings = self._settings
        if settings.url is None:
            env = {**settings.env, **settings.handed_on()}
            transport = stdio_transport(
                settings.command, env, settings.cwd, self._words.file, LIMIT_BYTES
            )
        else:
            token = settings.handed_on().get(settings.token_env or "")
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            http = await stack.enter_async_context(pool(settings.connect_s, LIMIT_BYTES, headers))
            http.event_hooks = {"response": [response_hook(LIMIT_BYTES)]}
            transport = streamable_http_client(
                settings.url, http_client=http, max_sse_event_size=None
            )
        client = Client(self._pages.between(transport), message_handler=self._hear)
        return await stack.enter_async_context(client)

    async def _hear(self, message: object) -> None:
        """Is given what the server says of its own accord; asking back here would block it."""
        if isinstance(message, types.ToolListChangedNotification):
            self.list_again()

    def list_again(self) -> None:
        """Has the tools listed anew; `listed` is set when they are."""
        self.listed.clear()
        self._changed.set()

    async def _follow_until_end(self, client: Client) -> None:
        tasks = [asyncio.create_task(self._relist(client))]
        if client.protocol_version in MODERN_PROTOCOL_VERSIONS:
            tasks.append(asyncio.create_task(self._subscribe(client)))
        try:
            await self._end.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _relist(self, client: Client) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                async with asyncio.timeout(self._settings.connect_s):
                    await self._list(client)
            except Exception as error:  # the list stays as it was
                self.suspect = True
                words = self._hide(f"{self._settings.name} cannot list its tools anew: {error!r}")
                logger.warning("%s", words)
            if not self._changed.is_set():
                self.listed.set()

    async def _subscribe(self, client: Client) -> None:
        """Since MCP of 2026 a server tells of changes only where it is asked to."""
        while True:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        self.list_again()
                return
            except SubscriptionLost:  # what changed meanwhile is not told again
                self.list_again()
                await asyncio.sleep(LISTEN_AGAIN_S)
            except (MCPError, TimeoutError):  # it offers no such thing
                return

    async def _list(self, client: Client) -> None:
        pages = self._pages
        pages.forget()
        tools = await list_pages(client)
        dropped = pages.names - tools.keys() - pages.problems.keys()
        self.problems = pages.problems | dict.fromkeys(dropped, "its x-mcp-header is not valid")
        self.former_names |= self.names
        self.tools, self.names = tools, frozenset(pages.names)
        self._validators.clear()

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
        except TooMuch:
            return
        except Exception as problem:  # the library raises what it likes
            why = f"{type(problem).__name__}: {problem}"
            raise RuntimeError(f"the schema of {name}'s results cannot be used ({why})") from None
        if error is not None:
            raise RuntimeError(f"{name} gave a result against its own schema: {error.message}")

    def _fault(self, error: BaseException) -> Fault:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        name = self._settings.name
        if isinstance(error, MCPError) and (fault := fault_of(error, name)) is not None:
            return fault
        if isinstance(error, TimeoutError):
            text = f"{name} did not answer within {self._settings.connect_s:g} s"
            return Fault(FaultKind.CONNECTION, text)
        # A command that is not there will not be there on the next try either.
        absent = isinstance(error, OSError) and not isinstance(error, ConnectionError)
        kind = FaultKind.UNAVAILABLE if absent else FaultKind.CONNECTION
        return Fault(kind, f"{name} cannot be reached: {type(error).__name__}: {error}")


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
