"""One session with an MCP server, in a task of its own.

- The client's cancel scopes must be exited by the task that entered them, and a cancelled caller
  must not end the session. So the session's task connects, waits for `end`, and disconnects.
- A server that is a command gets only the configured variables and those that the SDK considers
  harmless (HOME, LOGNAME, PATH, SHELL, TERM, USER). The end of its stderr is kept.
- Results are validated against the server's output schema, within the bounds of
  `catalogue.schemas`; the SDK's validation has no bounds. A result that exceeds the bounds is
  accepted, since it is not known to be invalid.
- When the server reports that its tools changed, they are listed again, concurrently with calls.
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
from orchestra_ray.data.catalogue.schemas import BoundedValidator, ValidationLimitExceeded
from orchestra_ray.workers.tools.endpoint.http_client import pool
from orchestra_ray.workers.tools.mcp.http import fault_of, response_hook
from orchestra_ray.workers.tools.mcp.listing import ReadablePages, list_pages
from orchestra_ray.workers.tools.mcp.stdio import stdio_transport

RESPONSE_S = 5.0  # at most, for the check that a server still responds
KEPT_BYTES = 4096
LIMIT_BYTES = 40 * 2**20  # of one response: 16 MiB of result, as text and as structured content
RESUBSCRIBE_S = 5.0  # after the loss of a subscription

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class McpSettings:
    """A server's address, by `command` or by `url`, and its time limits.

    env: variables of the command, with their values. env_from: names of variables to pass on from
    the environment. token_env: name of the variable that holds the bearer token for a URL.
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
        """Raises `ConfigError` unless exactly one of `command` and `url` is given."""
        if bool(self.command) == bool(self.url):
            raise ConfigError(f"MCP server {self.name}: give it a command or a url, one of them")

    def forwarded_variables(self) -> Mapping[str, str]:
        """Returns the variables of this environment to pass on; `ConfigError` if one is not set."""
        names = (*self.env_from, self.token_env) if self.token_env else self.env_from
        for name in names:
            if name not in os.environ:
                raise ConfigError(f"MCP server {self.name}: the environment has no {name}")
        return {name: os.environ[name] for name in names}


class McpSession:
    """Connects immediately. Once `settled` is set, either `client` or `fault` is available."""

    def __init__(self, settings: McpSettings, redact: Callable[[str], str]):
        """redact: removes secrets from log messages."""
        self._settings, self._redact = settings, redact
        self.settled, self._end = asyncio.Event(), asyncio.Event()
        self._changed = asyncio.Event()
        self.listed = asyncio.Event()  # the listing is up to date
        self.fault: Fault | None = None
        self.tools: Mapping[str, types.Tool] = {}
        self.names: frozenset[str] = frozenset()  # of all tools, with the unreadable ones
        self.problems: Mapping[str, str] = {}  # why a tool is unreadable
        self.former_names: frozenset[str] = frozenset()
        self._pages = ReadablePages()
        self.suspect = False  # a call failed, so the session may be lost
        self._client: Client | None = None
        self._validators: dict[str, BoundedValidator] = {}  # of results, by tool
        self._stderr = _StderrTail()
        self.task = asyncio.get_running_loop().create_task(self._run())

    @property
    def client(self) -> Client:
        assert self._client is not None, "a session is usable once it settled without a fault"
        return self._client

    @property
    def stderr_tail(self) -> str:
        """Returns the end of the server's stderr."""
        return self._stderr.text

    def end(self) -> None:
        """Makes the task disconnect and end a server that it started."""
        self._end.set()

    async def responds(self) -> bool:
        """Returns whether the session is usable; queries the server if the last call failed."""
        if self.task.done() or not self.suspect or self._client is None:
            return not self.task.done()
        try:
            # Shorter than a call's deadline, or each call would time out during this check.
            async with asyncio.timeout(min(RESPONSE_S, self._settings.deadline_s / 2)):
                await self._client.list_tools(cache_mode="bypass")
        except MCPError as error:
            fault = fault_of(error, self._settings.name)
            return fault is not None and fault.kind is FaultKind.RATE_LIMITED
        except (TimeoutError, anyio.ClosedResourceError, anyio.BrokenResourceError):
            return False
        self.suspect = False
        return True

    async def _run(self) -> None:
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
        except Exception as error:  # transports raise any type, in nested exception groups
            self.fault = self._fault(error)
            stderr = f"; stderr ends with: {self.stderr_tail}" if self.stderr_tail else ""
            logger.warning("%s", self._redact(f"{self.fault}{stderr}"))
        finally:
            self.settled.set()
            self.listed.set()
            self._stderr.close()

    async def _connect(self, stack: AsyncExitStack) -> Client:
        settings = self._settings
        if settings.url is None:
            env = {**settings.env, **settings.forwarded_variables()}
            transport = stdio_transport(
                settings.command, env, settings.cwd, self._stderr.file, LIMIT_BYTES
            )
        else:
            token = settings.forwarded_variables().get(settings.token_env or "")
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            http = await stack.enter_async_context(pool(settings.connect_s, LIMIT_BYTES, headers))
            http.event_hooks = {"response": [response_hook(LIMIT_BYTES)]}
            transport = streamable_http_client(
                settings.url, http_client=http, max_sse_event_size=None
            )
        client = Client(self._pages.between(transport), message_handler=self._on_message)
        return await stack.enter_async_context(client)

    async def _on_message(self, message: object) -> None:
        """Handles a notification; a request to the server from here would block the client."""
        if isinstance(message, types.ToolListChangedNotification):
            self.request_listing()

    def request_listing(self) -> None:
        """Starts a new listing of the tools; `listed` is set when it is complete."""
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
            except Exception as error:  # the former listing stays
                self.suspect = True
                problem = f"{self._settings.name} cannot list its tools again: {error!r}"
                logger.warning("%s", self._redact(problem))
            if not self._changed.is_set():
                self.listed.set()

    async def _subscribe(self, client: Client) -> None:
        """Subscribes to changes of the tools, which MCP of 2026 requires for notifications."""
        while True:
            try:
                async with client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        self.request_listing()
                return
            except SubscriptionLost:  # changes in between are not reported again
                self.request_listing()
                await asyncio.sleep(RESUBSCRIBE_S)
            except (MCPError, TimeoutError):  # the server has no subscriptions
                return

    async def _list(self, client: Client) -> None:
        pages = self._pages
        pages.reset()
        tools = await list_pages(client)
        dropped = pages.names - tools.keys() - pages.problems.keys()
        self.problems = pages.problems | dict.fromkeys(dropped, "its x-mcp-header is not valid")
        self.former_names |= self.names
        self.tools, self.names = tools, frozenset(pages.names)
        self._validators.clear()

    async def _check_result(self, name: str, result: types.CallToolResult) -> None:
        """Replaces the SDK's validation; raises RuntimeError as that does."""
        schema = self.tools[name].output_schema if name in self.tools else None
        if schema is None:
            return
        if result.structured_content is None:
            raise RuntimeError(f"{name} gave no structured result, and its schema promises one")
        try:
            if name not in self._validators:
                self._validators[name] = BoundedValidator(schema)
            error = self._validators[name].first_error(result.structured_content)
        except ValidationLimitExceeded:
            return
        except Exception as problem:  # the library documents no exception types
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
        # A missing command is not retried.
        absent = isinstance(error, OSError) and not isinstance(error, ConnectionError)
        kind = FaultKind.UNAVAILABLE if absent else FaultKind.CONNECTION
        return Fault(kind, f"{name} cannot be reached: {type(error).__name__}: {error}")


class _StderrTail:
    """Keeps the last bytes written to `file`, a pipe that is drained so its writer never blocks."""

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
