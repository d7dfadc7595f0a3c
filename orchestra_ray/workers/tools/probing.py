"""Probes the catalogue entries that reach outside this machine, concurrently.

An endpoint is asked for one token at each of its URLs, which its provider may bill. An MCP server
is connected to and lists its tools. Web search is not probed, since every search is billed.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault
from orchestra_ray.data.catalogue import Catalogue, Entry
from orchestra_ray.tracking.secrets import hide_url
from orchestra_ray.workers.tools.availability import with_recipes
from orchestra_ray.workers.tools.registry import checked_settings

if TYPE_CHECKING:
    from orchestra_ray.workers.tools.endpoint.settings import EndpointSettings
    from orchestra_ray.workers.tools.mcp.server import McpListing, McpServer, McpToolSettings

PROBE_S = 10.0
PROBED_BACKENDS = ("endpoint", "mcp")
OUTSIDE = (*PROBED_BACKENDS, "web_search")


@dataclass(frozen=True, slots=True)
class Probed:
    """The result of a probe: why the entry cannot be called, or a remark if it can."""

    why_not: str | None = None
    remark: str | None = None


def probe(catalogue: Catalogue, why: Mapping[str, str]) -> Mapping[str, Probed]:
    """Probes the entries that `why` does not rule out; recipes follow from their parts."""
    entries = [
        entry
        for entry in catalogue.entries.values()
        if entry.backend in PROBED_BACKENDS and entry.name not in why
    ]
    probed = asyncio.run(_probe(entries))
    failed = {name: one.why_not for name, one in probed.items() if one.why_not is not None}
    reasons = with_recipes(catalogue, {**why, **failed})
    derived = {name: Probed(text) for name, text in reasons.items() if name not in why}
    return {**derived, **probed}


async def _probe(entries: list[Entry]) -> dict[str, Probed]:
    servers = _Servers()
    try:
        found = await asyncio.gather(*(_probe_entry(entry, servers) for entry in entries))
    finally:
        await servers.close()
    return {entry.name: one for entry, one in zip(entries, found, strict=True)}


async def _probe_entry(entry: Entry, servers: "_Servers") -> Probed:
    try:
        settings = checked_settings(entry)
        probing: Awaitable[Probed] = (
            _endpoint(settings) if entry.backend == "endpoint" else _mcp(settings, servers)
        )
        return await probing
    except ConfigError as error:
        return Probed(str(error))


async def _endpoint(settings: "EndpointSettings") -> Probed:
    from orchestra_ray.workers.tools.endpoint.model import EndpointModel

    model = EndpointModel(settings)
    try:
        faults = await model.probe(PROBE_S)
    finally:
        await model.close()
    lines = [
        f"{hide_url(url)}: {fault}"
        for url, fault in zip(settings.base_urls, faults, strict=True)
        if fault is not None
    ]
    if len(lines) == len(faults):
        return Probed(why_not="; ".join(lines))
    return Probed(remark="; ".join(lines) or None)


async def _mcp(settings: "McpToolSettings", servers: "_Servers") -> Probed:
    name = settings.server.name
    try:
        async with asyncio.timeout(PROBE_S):
            tools = await servers.listing(settings)
    except TimeoutError:
        return Probed(f"{name}: no answer within {PROBE_S:g} s")
    except Fault as fault:
        return Probed(f"{name}: {fault}")
    if settings.tool is not None and settings.tool not in [tool.name for tool in tools]:
        return Probed(f"{name} has no tool {settings.tool}")
    return Probed()


class _Servers:
    """One session per MCP server, shared by its entries."""

    def __init__(self) -> None:
        self._servers: dict[str, McpServer] = {}

    async def listing(self, settings: "McpToolSettings") -> "list[McpListing]":
        from orchestra_ray.workers.tools.mcp.server import McpServer

        key = repr(asdict(settings.server))
        if key not in self._servers:
            self._servers[key] = McpServer(settings.server)
        return await self._servers[key].list_tools()

    async def close(self) -> None:
        await asyncio.gather(*(server.close() for server in self._servers.values()))
