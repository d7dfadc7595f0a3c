"""Makes tools from catalogue entries: the backends and their settings.

A new kind of tool is a class with the `Tool` protocol and a line in `BACKENDS`. `check_backends`
runs before any actor starts, and checks all settings without starting anything. `available` leaves
entries that this machine lacks out of the catalogue, each with a line that says why.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from orchestra_ray.config.enums import CassetteMode
from orchestra_ray.config.schema import CassetteConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind
from orchestra_ray.data.catalogue.parsers import Parser
from orchestra_ray.workers.tools.base import Reply, Tool
from orchestra_ray.workers.tools.builtin.calculator import Calculator
from orchestra_ray.workers.tools.builtin.recipe import Parsed, Recipe, RecipeSettings, argument_of
from orchestra_ray.workers.tools.builtin.simulated import SimulatedExpert
from orchestra_ray.workers.tools.settings import settings_of

if TYPE_CHECKING:
    from orchestra_ray.workers.tools.mcp.server import McpServer


@dataclass(slots=True)
class BuildContext:
    """The catalogue and the tools made so far in one process, by entry.

    unparsed: models without their parser. servers: one session per MCP server, shared by its tools.
    """

    catalogue: Catalogue
    tools: dict[str, Tool] = field(default_factory=dict)
    unparsed: dict[str, Tool] = field(default_factory=dict)
    servers: dict[str, "McpServer"] = field(default_factory=dict)  # by their settings


@dataclass(frozen=True, slots=True)
class Backend:
    """A kind of tool: `settings` checks an entry's without starting anything, `start` uses them."""

    settings: Callable[[Entry], Any]
    start: Callable[[Entry, Any, BuildContext], Tool]
    pure: bool = False  # a reply depends on the request alone, without access to anything outside
    tells_schema: bool = False  # it can tell the schema of its arguments, see `schemas`


@dataclass(frozen=True, slots=True)
class NoSettings:
    pass


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """A user function; `path` is `package.module:name`."""

    path: str
    python_path: tuple[str, ...] = ()
    processes: int = 1
    memory_mib: int | None = None


def _no_settings(entry: Entry) -> NoSettings:
    return settings_of(NoSettings, entry)


def _simulated(entry: Entry, settings: NoSettings, context: BuildContext) -> Tool:
    return SimulatedExpert(entry)


def _calculator(entry: Entry, settings: NoSettings, context: BuildContext) -> Tool:
    return Calculator()


def _endpoint_settings(entry: Entry) -> Any:
    from orchestra_ray.workers.tools.endpoint.settings import EndpointSettings

    limits = entry.limits
    settings = settings_of(
        EndpointSettings,
        entry,
        max_output_tokens=limits.max_output_tokens,
        context_tokens=limits.context_tokens,
        deadline_s=limits.deadline_s,
    )
    settings.check()
    return settings


def _endpoint(entry: Entry, settings: Any, context: BuildContext) -> Tool:
    from orchestra_ray.workers.tools.endpoint.model import EndpointModel

    return EndpointModel(settings)


def _python_settings(entry: Entry) -> Any:
    from orchestra_ray.sandbox.command import SandboxLimits

    return settings_of(SandboxLimits, entry)


def _python(entry: Entry, settings: Any, context: BuildContext) -> Tool:
    from orchestra_ray.workers.tools.builtin.python import CodeTool

    return CodeTool(settings)


def _search_settings(entry: Entry) -> Any:
    from orchestra_ray.workers.tools.search.tool import SearchSettings

    return settings_of(SearchSettings, entry, cache_dir="~/.cache/orchestra_ray/search")


def _search(entry: Entry, settings: Any, context: BuildContext) -> Tool:
    from orchestra_ray.workers.tools.search.tool import SearchTool, open_retriever

    return SearchTool(open_retriever(settings), settings)


def _web_settings(entry: Entry) -> Any:
    from orchestra_ray.workers.tools.search.web import WebSettings

    return settings_of(WebSettings, entry)


def _web_search(entry: Entry, settings: Any, context: BuildContext) -> Tool:
    from orchestra_ray.workers.tools.search.web import WebSearchTool

    return WebSearchTool(settings)


def _function_settings(entry: Entry) -> FunctionSettings:
    return settings_of(FunctionSettings, entry)


def _function(entry: Entry, settings: FunctionSettings, context: BuildContext) -> Tool:
    from orchestra_ray.workers.tools.builtin.function import FunctionLimits, FunctionTool

    limits = FunctionLimits(
        processes=settings.processes,
        deadline_s=entry.limits.deadline_s,
        memory_mib=settings.memory_mib,
    )
    return FunctionTool(settings.path, limits, settings.python_path)


def _mcp_settings(entry: Entry) -> Any:
    from orchestra_ray.workers.tools.mcp.server import McpToolSettings

    settings = settings_of(McpToolSettings, entry)
    settings.server.check()
    return settings


def _mcp(entry: Entry, settings: Any, context: BuildContext) -> Tool:
    from orchestra_ray.workers.tools.mcp.server import McpServer, McpTool

    if settings.tool is None:
        raise ConfigError(f"catalogue: {entry.name}: no tool of the server is named; name one")
    key = repr(settings.server)
    if key not in context.servers:
        context.servers[key] = McpServer(settings.server)
    return McpTool(context.servers[key], settings.tool)


def _recipe_settings(entry: Entry) -> RecipeSettings:
    if not entry.choices:
        raise ConfigError(f"catalogue: {entry.name}: a recipe has choices; name models to choose")
    return settings_of(RecipeSettings, entry)


def _recipe(entry: Entry, settings: RecipeSettings, context: BuildContext) -> Tool:
    models = context.tools if entry.parser is Parser.TEXT else context.unparsed
    runs = entry.runs and (context.catalogue.entries[entry.runs], context.tools[entry.runs])
    return Recipe(entry, settings, models, runs or None)


BACKENDS: Mapping[Kind, Mapping[str, Backend]] = {
    Kind.MODEL: {
        "simulated": Backend(_no_settings, _simulated, pure=True),
        "endpoint": Backend(_endpoint_settings, _endpoint),
    },
    Kind.TOOL: {
        "calculator": Backend(_no_settings, _calculator, pure=True),
        "python": Backend(_python_settings, _python),
        "search": Backend(_search_settings, _search),
        "web_search": Backend(_web_settings, _web_search),
        "function": Backend(_function_settings, _function, tells_schema=True),
        "mcp": Backend(_mcp_settings, _mcp, tells_schema=True),
        "recipe": Backend(_recipe_settings, _recipe),
    },
}


def check_backends(catalogue: Catalogue) -> None:
    """Raises `ConfigError` if an entry names an unknown backend or has wrong settings."""
    for entry in catalogue.entries.values():
        known = BACKENDS[entry.kind]
        if entry.backend not in known:
            choices = ", ".join(known)
            raise ConfigError(
                f"catalogue: {entry.name}: no backend {entry.backend}; choose from: {choices}"
            )
        if entry.choices:
            _check_recipe(entry, catalogue)
        known[entry.backend].settings(entry)


def checked_settings(entry: Entry) -> Any:
    """Returns the settings as the entry's backend reads them; raises `ConfigError` if wrong."""
    return BACKENDS[entry.kind][entry.backend].settings(entry)


def has_no_schema(entry: Entry) -> bool:
    """Returns whether the catalogue leaves the schema of the arguments to the tool itself."""
    backend = BACKENDS[entry.kind].get(entry.backend)
    stated = {key for key, value in entry.parameters.items() if value} - {"type"}
    return backend is not None and backend.tells_schema and not stated


def _check_recipe(entry: Entry, catalogue: Catalogue) -> None:
    """Raises `ConfigError` if a recipe's limits or its tool's schema are unfit."""
    where = f"catalogue: {entry.name}"
    if entry.backend != "recipe":
        raise ConfigError(f"{where}: it has choices; write backend: recipe, or leave them out")
    runs = catalogue.entries.get(entry.runs or "")
    if runs is None or has_no_schema(runs):
        return
    for key in ("max_service_s", "max_searches"):
        own, needed = getattr(entry.limits, key), getattr(runs.limits, key)
        if own < needed:
            problem = f"limits.{key} {own:g} is below {needed:g} of {runs.name}"
            raise ConfigError(f"{where}: {problem}, which it runs; raise it")
    try:
        argument_of(runs)
    except KeyError:
        problem = f"it runs {runs.name}, which does not have exactly one required argument"
        raise ConfigError(f"{where}: {problem}; give {runs.name} such parameters") from None


def is_pure(entry: Entry) -> bool:
    known = BACKENDS[entry.kind].get(entry.backend)
    return known is not None and known.pure


def available(
    catalogue: Catalogue, tape: CassetteConfig | None = None
) -> tuple[Catalogue, Mapping[str, str]]:
    """Returns the catalogue without the entries that this machine lacks, and by name why.

    Every entry that is left has a schema of its arguments. A replay needs nothing of this machine.
    """
    tape, stated = tape or CassetteConfig(), catalogue.entries.keys()
    absent: dict[str, str] = {}
    if any(map(has_no_schema, catalogue.entries.values())):
        from orchestra_ray.workers.tools.schemas import discovered

        catalogue, absent = discovered(catalogue, checked_settings, has_no_schema, tape)
    kept = dict(catalogue.entries)
    for name, entry in catalogue.entries.items() if tape.mode.calls else ():
        if (line := _unavailable(entry)) is not None:
            del kept[name]
            absent[name] = line
    for entry in catalogue.entries.values():
        if entry.runs in stated and entry.runs not in kept:
            kept.pop(entry.name, None)
            absent[entry.name] = f"{entry.name} is absent with {entry.runs}, which it runs"
    return replace(catalogue, entries=kept), absent


def make_tools(catalogue: Catalogue, mode: CassetteMode = CassetteMode.LIVE) -> Mapping[str, Tool]:
    """Makes a tool for each entry, in this process and on this event loop.

    In a replay only pure tools are started, since they are not recorded; no key is needed.
    """
    check_backends(catalogue)
    context = BuildContext(catalogue)
    parts_first = sorted(catalogue.entries.values(), key=lambda entry: bool(entry.choices))
    for entry in parts_first:
        if mode.calls or is_pure(entry):
            context.tools[entry.name] = _start(entry, context)
        else:
            context.tools[entry.name] = _Recorded()
    return context.tools


class _Recorded:
    """Placeholder for a tool in a replay, whose replies all come from the recording."""

    async def call(self, request: ToolRequest) -> Reply:
        raise Fault(FaultKind.UNAVAILABLE, "a replay calls nothing")

    async def close(self) -> None:
        pass


def _start(entry: Entry, context: BuildContext) -> Tool:
    backend = BACKENDS[entry.kind][entry.backend]
    tool = backend.start(entry, backend.settings(entry), context)
    if entry.kind is not Kind.MODEL:
        return tool
    context.unparsed[entry.name] = tool
    return tool if entry.parser is Parser.TEXT else Parsed(tool, entry.parser)


def _unavailable(entry: Entry) -> str | None:
    if entry.backend == "web_search":
        from orchestra_ray.workers.tools.search.web import available as web_available

        return web_available()
    if entry.backend == "python":
        from orchestra_ray.sandbox.run import check

        reason = check()
        return None if reason is None else f"{entry.name} is absent: {reason}"
    return None
