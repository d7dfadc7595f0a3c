"""Schema discovery: reads the argument schemas that the catalogue leaves to the tools.

The schema of a user function comes from its type hints, read in the process that would run it, so
that none of its code runs here. An MCP server lists its tools: an entry that names one of them
takes its schema, and an entry that names none stands for all of them. A tool with an unusable
schema is left out, with a line that says why. A listing is recorded like a call, since a replay
contacts no server. A schema in the catalogue takes precedence.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from orchestra_ray.config.schema import CassetteConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault
from orchestra_ray.data.catalogue import Catalogue, Entry
from orchestra_ray.data.catalogue.schemas import BadSchema, check_schema
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.builtin.function import signature_of
from orchestra_ray.workers.tools.mcp.listing import McpListing
from orchestra_ray.workers.tools.mcp.server import McpToolSettings, list_tools
from orchestra_ray.workers.tools.replay.cassette import (
    CassetteError,
    canonical_digest,
    open_cassette,
)
from orchestra_ray.workers.tools.replay.store import Key

Settings = Callable[[Entry], Any]  # returns the checked settings of an entry


def discovered(
    catalogue: Catalogue,
    settings_of: Settings,
    has_no_schema: Callable[[Entry], bool],
    tape: CassetteConfig,
) -> tuple[Catalogue, dict[str, str]]:
    """Returns the catalogue with all schemas, and by name why a server's tool is left out.

    Raises `ConfigError` if a schema cannot be read.
    """
    listings = _Listings(tape)
    made: dict[str, Entry] = {}
    absent: dict[str, str] = {}
    for entry in catalogue.entries.values():
        found = (
            _discovered(entry, settings_of(entry), listings) if has_no_schema(entry) else [entry]
        )
        for one in found:
            if isinstance(one, _Absent):
                absent[one.name] = f"{one.name} is absent: {one.why}"
                continue
            if one.name in made:
                raise ConfigError(f"catalogue: {one.name} appears twice; rename {entry.name}")
            made[one.name] = one
    return replace(catalogue, entries=made), absent


@dataclass(frozen=True, slots=True)
class _Absent:
    name: str
    why: str


def _discovered(entry: Entry, settings: Any, listings: "_Listings") -> Iterator[Entry | _Absent]:
    """Yields the entries with their schemas, and the tools that are left out."""
    if not isinstance(settings, McpToolSettings):
        yield _with_function_schema(entry, signature_of(settings.path, settings.python_path).schema)
        return
    listed = listings.of(entry, settings)
    if settings.tool is None:
        for tool in listed:
            one = replace(
                entry,
                name=f"{entry.name}_{tool.name}",
                description=tool.description or entry.description,
                settings={**entry.settings, "tool": tool.name},
            )
            yield _with_server_schema(one, tool)
        return
    found = next((tool for tool in listed if tool.name == settings.tool), None)
    if found is None:
        names = ", ".join(tool.name for tool in listed) or "none"
        problem = f"the server has no tool {settings.tool}; choose from: {names}"
        raise ConfigError(f"catalogue: {entry.name}: {problem}")
    yield _with_server_schema(entry, found)


def _with_server_schema(entry: Entry, tool: McpListing) -> Entry | _Absent:
    try:
        if tool.problem is not None:
            raise BadSchema(tool.problem)
        return _with_schema(entry, tool.input_schema)
    except BadSchema as error:
        why = f"its schema cannot be used: {error}; give parameters, or correct the tool"
        return _Absent(entry.name, why)


def _with_function_schema(entry: Entry, schema: Mapping[str, Any]) -> Entry:
    try:
        return _with_schema(entry, schema)
    except BadSchema as error:
        where = f"catalogue: {entry.name}: the schema of its arguments"
        raise ConfigError(f"{where}: {error}; give parameters, or correct the tool") from None


def _with_schema(entry: Entry, schema: Mapping[str, Any]) -> Entry:
    parameters = {"type": "object", "properties": {}, **schema}
    check_schema(parameters)
    return replace(entry, parameters=parameters)


class _Listings:
    """The tool listings of MCP servers, each read once, from the server or the cassette."""

    def __init__(self, tape: CassetteConfig):
        self._tape = tape
        self._listed: dict[str, Sequence[McpListing]] = {}

    def of(self, entry: Entry, settings: McpToolSettings) -> Sequence[McpListing]:
        server = repr(settings.server)
        if server not in self._listed:
            self._listed[server] = asyncio.run(self._ask(entry, settings))
        return self._listed[server]

    async def _ask(self, entry: Entry, settings: McpToolSettings) -> Sequence[McpListing]:
        async def live() -> Reply:
            listed = await list_tools(settings.server)
            return Reply(json.dumps([asdict(tool) for tool in listed]))

        cassette = open_cassette(self._tape)
        if cassette is None:
            reply = await live()
        else:
            content = canonical_digest(["listing", settings.server.name, entry.version])
            try:
                async with cassette:
                    reply = await cassette.play(Key(entry.name, entry.version, content, 0), live)
            except (Fault, CassetteError) as error:
                raise ConfigError(f"catalogue: {entry.name}: its listing: {error}") from None
        return [McpListing(**tool) for tool in json.loads(reply.text)]
