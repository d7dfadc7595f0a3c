"""What the catalogue leaves to the tools themselves: the schemas of their arguments.

A function of the user's is introduced by its type hints, from the process that it would run in, so
that none of its code runs here. An MCP server lists its tools: an entry that names one of them
takes over its schema, and an entry that names none stands for them all. A listing is recorded like
a call, for a replay asks no server. What the catalogue states itself stands.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from orchestra_ray.catalogue import Catalogue, Entry
from orchestra_ray.catalogue.schemas import BadSchema, check_schema
from orchestra_ray.config.schema import CassetteConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.tools.cassette import CassetteError, canonical_digest, open_cassette
from orchestra_ray.tools.cassette_store import Key
from orchestra_ray.tools.functions import signature_of
from orchestra_ray.tools.mcp import McpListing, McpToolSettings, list_tools
from orchestra_ray.tools.tool import Fault, Reply

Settings = Callable[[Entry], Any]  # of an entry, checked


def introduced(
    catalogue: Catalogue,
    settings_of: Settings,
    is_silent: Callable[[Entry], bool],
    tape: CassetteConfig,
) -> Catalogue:
    """The catalogue with every schema; `ConfigError` where a tool cannot be asked for its own."""
    listings = _Listings(tape)
    made: dict[str, Entry] = {}
    for entry in catalogue.entries.values():
        for one in (
            _introduced(entry, settings_of(entry), listings) if is_silent(entry) else [entry]
        ):
            if one.name in made:
                raise ConfigError(f"catalogue: {one.name} stands twice; rename {entry.name}")
            made[one.name] = one
    return replace(catalogue, entries=made)


def _introduced(entry: Entry, settings: Any, listings: "_Listings") -> Iterator[Entry]:
    if not isinstance(settings, McpToolSettings):
        yield _with_schema(entry, signature_of(settings.path, settings.python_path).schema)
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
            yield _with_schema(one, tool.input_schema)
        return
    found = next((tool for tool in listed if tool.name == settings.tool), None)
    if found is None:
        names = ", ".join(tool.name for tool in listed) or "none"
        problem = f"the server has no tool {settings.tool}; choose from: {names}"
        raise ConfigError(f"catalogue: {entry.name}: {problem}")
    yield _with_schema(entry, found.input_schema)


def _with_schema(entry: Entry, schema: Mapping[str, Any]) -> Entry:
    parameters = {"type": "object", "properties": {}, **schema}
    try:
        check_schema(parameters)
    except BadSchema as error:
        where = f"catalogue: {entry.name}: the schema of its arguments"
        raise ConfigError(f"{where}: {error}; give parameters, or correct the tool") from None
    return replace(entry, parameters=parameters)


class _Listings:
    """What MCP servers offer, each asked once, or a recording in its place."""

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
