"""From catalogue entries to tools: which executors there are, and what their settings look like.

A new kind of tool is a class with the `Tool` protocol and a line in `EXECUTORS`. `check_executors`
runs before any actor starts, and reads every setting without starting anything; what cannot be had
on this machine is left out of the catalogue by `available`, with a line that says why.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from orchestra_ray.config.schema import CassetteConfig, CassetteMode
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind
from orchestra_ray.data.catalogue.parsers import Parser
from orchestra_ray.workers.tools.base import Reply, Tool
from orchestra_ray.workers.tools.builtin.calculator import Calculator
from orchestra_ray.workers.tools.builtin.recipe import Parsed, Recipe, RecipeSettings, argument_of
from orchestra_ray.workers.tools.builtin.simulated import SimulatedExpert

if TYPE_CHECKING:
    from orchestra_ray.workers.tools.mcp.server import McpServer

T = TypeVar("T")


@dataclass(slots=True)
class BuildContext:
    """What the tools of one process are made from, and those that are made so far, by entry.

    `unparsed` are models whose answers come as they are. Tools of one MCP server share a session.
    """

    catalogue: Catalogue
    tools: dict[str, Tool] = field(default_factory=dict)
    unparsed: dict[str, Tool] = field(default_factory=dict)
    servers: dict[str, "McpServer"] = field(default_factory=dict)  # by their settings


@dataclass(frozen=True, slots=True)
class Backend:
    """A kind of tool. `settings` are checked without starting anything; `start` is given them."""

    settings: Callable[[Entry], Any]
    start: Callable[[Entry, Any, BuildContext], Tool]
    pure: bool = False  # its replies are a function of the request and reach for nothing outside
    tells_schema: bool = False  # it can tell the schema of its arguments, see `introduction`


@dataclass(frozen=True, slots=True)
class NoSettings:
    pass


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """A function of the user's: `package.module:name`."""

    path: str
    python_path: tuple[str, ...] = ()
    processes: int = 1
    memory_mib: int | None = None


def settings_of(shape: type[T], entry: Entry, **given: Any) -> T:
    """The entry's settings as `shape`, over what the entry itself gives; `ConfigError` if bad."""
    where = f"catalogue: {entry.name}: settings"
    for key, known in _unknown(shape, entry.settings):
        choices = f"choose from: {', '.join(known)}" if known else "it has none"
        raise ConfigError(f"{where}.{key}: no such setting; {choices}")
    try:
        return TypeAdapter(shape).validate_python({**given, **entry.settings})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        wants = first["msg"]
        if first["type"] == "tuple_type":
            wants = "it is a list; write it in [ ]"  # not the value, which may hold a secret
        raise ConfigError(f"{where}.{key}: {wants}") from None


def _unknown(shape: Any, given: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Dotted keys that no field has, each with those that its place does have."""
    hints = get_type_hints(shape)
    known = [one.name for one in fields(shape)]
    for key, value in given.items():
        if key not in known:
            yield key, known
        elif isinstance(value, Mapping):
            for inner in (hints[key], *get_args(hints[key])):
                if is_dataclass(inner):
                    yield from ((f"{key}.{k}", names) for k, names in _unknown(inner, value))


def _no_settings(entry: Entry) -> NoSettings:
    return settings_of(NoSettings, entry)


def _simulated(entry: Entry, settings: NoSettings, context: BuildContext) -> Tool:
    return SimulatedExpert(entry)


def _calculator(entry: Entry, settings: NoSettings, context: BuildContext) -> Tool:
    return Calculator()


def _endpoint_settings(entry: Entry) -> Any:
    from orchestra_ray.workers.tools.endpoint.model import EndpointSettings

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
    from orchestra_ray.sandbox.command import Limits

    return settings_of(Limits, entry)


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
    """`ConfigError` where an entry names a backend that does not exist, or sets it up wrongly."""
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
    """The entry's settings as its executor reads them; `ConfigError` if they are wrong."""
    return BACKENDS[entry.kind][entry.backend].settings(entry)


def has_no_schema(entry: Entry) -> bool:
    """Whether the catalogue says nothing of the arguments, and the tool itself can."""
    kind = BACKENDS[entry.kind].get(entry.backend)
    says = {key for key, value in entry.parameters.items() if value} - {"type"}
    return kind is not None and kind.tells_schema and not says


def _check_recipe(entry: Entry, catalogue: Catalogue) -> None:
    """A recipe's limits bound what its call can be billed; what it runs has one argument."""
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
        problem = f"it runs {runs.name}, which has not one required argument"
        raise ConfigError(f"{where}: {problem}; give {runs.name} such parameters") from None


def is_pure(entry: Entry) -> bool:
    known = BACKENDS[entry.kind].get(entry.backend)
    return known is not None and known.pure


def available(
    catalogue: Catalogue, tape: CassetteConfig | None = None
) -> tuple[Catalogue, Mapping[str, str]]:
    """The catalogue without what this machine cannot offer, and a line for each of those by name.

    All that is offered has the schema of its arguments. A replay needs nothing of this machine.
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
    """A tool for each entry, in this process and on this event loop.

    Where all is replayed, only what no recording answers for is started: no key is needed then.
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
    """Stands for a tool whose replies are all in the recording."""

    async def call(self, request: ToolRequest) -> Reply:
        raise Fault(FaultKind.UNAVAILABLE, "a replay calls nothing")

    async def close(self) -> None:
        pass


def _start(entry: Entry, context: BuildContext) -> Tool:
    kind = BACKENDS[entry.kind][entry.backend]
    tool = kind.start(entry, kind.settings(entry), context)
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
