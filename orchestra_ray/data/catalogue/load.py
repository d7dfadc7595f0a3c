"""Loads a catalogue and its price sheets from files.

Files state dollars: per million tokens, per call, per second, per search. Every entry is checked
by itself and against the entries that it refers to; a mistake is a `ConfigError` that names file
and entry.
"""

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestra_ray.config.schema import CatalogueConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import Prices
from orchestra_ray.data.catalogue.entries import (
    ISOLATION_OF_BACKEND,
    Catalogue,
    Choice,
    Entry,
    Isolation,
    Kind,
    PriceSheet,
)
from orchestra_ray.data.catalogue.prices import prices_of
from orchestra_ray.data.catalogue.released import with_released_tools
from orchestra_ray.data.catalogue.rows import CatalogueFile, ModelRow, Row, SheetFile, ToolRow, read
from orchestra_ray.data.catalogue.schemas import BadSchema, check_schema
from orchestra_ray.data.catalogue.signatures import ASK, SUBMIT


def read_catalogue(config: CatalogueConfig) -> Catalogue:
    """Returns the configured catalogue, with its price sheets and the released interface."""
    catalogue = load_catalogue(config.path, config.price_sheets)
    if config.tools_json is None:
        return catalogue
    return with_released_tools(catalogue, config.tools_json)


def load_catalogue(path: str | Path, price_sheets: Sequence[str | Path] = ()) -> Catalogue:
    """Returns the catalogue of a YAML file with its price sheets, one of which each toolset uses.

    A sheet is a YAML file with `prices: {name: {...}}`; unnamed entries keep their own prices.
    """
    where = f"catalogue {path}"
    rows = read(CatalogueFile, path, where, "catalogue.path")
    named = [row.name for row in (*rows.models, *rows.tools)]
    for name in named:
        if named.count(name) > 1:
            raise ConfigError(f"{where}: {name} occurs twice; names are unique")
    if not rows.models:
        raise ConfigError(f"{where}: no models; add at least one")
    entries = [_model(row, where) for row in rows.models] + [
        _tool(row, where) for row in rows.tools
    ]
    catalogue = Catalogue({entry.name: entry for entry in entries}, _version(Path(path)))
    _check_whole(where, catalogue)
    sheets = tuple(_sheet(sheet, catalogue, Path(path)) for sheet in price_sheets)
    for sheet in (PriceSheet(catalogue.price_sheet), *sheets):
        for entry in entries:
            _check_hedging(f"{where}: {entry.name}", entry, sheet.of(entry))
    return replace(catalogue, sheets=sheets)


def _model(row: ModelRow, file: str) -> Entry:
    where = f"{file}: {row.name}"
    common = _common(row, Kind.MODEL, where)
    return Entry(**common, skill=row.skill, output_tokens=row.output_tokens)


def _tool(row: ToolRow, file: str) -> Entry:
    where = f"{file}: {row.name}"
    if row.name in (ASK, SUBMIT):
        raise ConfigError(f"{where}: the name is reserved; take another")
    if row.choices and row.parameters:
        problem = "it has both parameters and choices"
        raise ConfigError(
            f"{where}: {problem}; a choice is its only argument, leave out parameters"
        )
    if row.runs is not None and not row.choices:
        raise ConfigError(f"{where}: it runs {row.runs} and has no choices; name models to choose")
    named = [choice.name for choice in row.choices]
    for name in named:
        if named.count(name) > 1:
            raise ConfigError(f"{where}: choice {name} occurs twice; names are unique")
    schema = {"type": "object", "properties": {}, **row.parameters}
    try:
        check_schema(schema)
    except BadSchema as error:
        raise ConfigError(f"{where}: parameters: {error}; {error.remedy}") from None
    return Entry(
        **_common(row, Kind.TOOL, where),
        parameters=schema,
        presence=row.presence,
        choices=tuple(Choice(c.name, c.model, c.description, c.latency_s) for c in row.choices),
        runs=row.runs,
        terminal=row.terminal,
    )


def _common(row: Row, kind: Kind, where: str) -> dict[str, Any]:
    _check_limits(where, row)
    return {
        "name": row.name,
        "kind": kind,
        "description": row.description,
        "backend": row.backend,
        "prices": prices_of(where, row.prices, _names(row.name, row.settings)),
        "latency_s": row.latency_s,
        "limits": row.limits,
        "version": row.version,
        "isolation": _isolation(where, row),
        "parser": row.parser,
        "offered": row.offered,
        "settings": row.settings,
    }


def _names(name: str, settings: Mapping[str, Any]) -> list[str]:
    """Returns the names of a model: its entry's, and the one at its endpoint."""
    return list(dict.fromkeys([name, str(settings.get("model", name))]))


def _isolation(where: str, row: Row) -> Isolation:
    fixed = ISOLATION_OF_BACKEND.get(row.backend)
    if row.isolation is None:
        return fixed or Isolation.NONE
    if fixed is not None and fixed is not row.isolation:
        problem = f"isolation is {row.isolation.value}, backend {row.backend} has {fixed.value}"
        raise ConfigError(f"{where}: {problem}; correct it or leave it out")
    return row.isolation


def _check_limits(where: str, row: Row) -> None:
    for key in ("retries", "max_service_s", "max_searches"):
        value = getattr(row.limits, key)
        if value < 0:
            raise ConfigError(f"{where}: limits.{key} is {value}; it cannot be negative")
    keys = ("concurrency", "calls_per_s", "deadline_s", "hedge_after_s")
    for key in (*keys, "context_tokens", "max_output_tokens", "max_reply_characters"):
        value = getattr(row.limits, key)
        if value is not None and value <= 0:
            raise ConfigError(f"{where}: limits.{key} is {value}; it must be above 0")


def _check_whole(where: str, catalogue: Catalogue) -> None:
    """Checks that the models and tools of recipes exist, and that some model can be called."""
    models, tools = catalogue.models, catalogue.tools
    for tool in tools.values():
        for choice in tool.choices:
            what = f"{where}: {tool.name}: choice {choice.name}"
            if choice.model not in models:
                raise ConfigError(
                    f"{what}: no model {choice.model}; {_known(choice.model, models)}"
                )
            _check_room(what, tool, models[choice.model])
        if tool.runs is not None and (tool.runs not in tools or tools[tool.runs].choices):
            plain = [name for name, other in tools.items() if not other.choices]
            problem = f"it runs {tool.runs}, which is not a plain tool"
            raise ConfigError(f"{where}: {tool.name}: {problem}; {_known(tool.runs, plain)}")
    if not catalogue.offered_models and not any(tool.choices for tool in catalogue.offered_tools):
        raise ConfigError(f"{where}: no model is offered; set offered, or choices of a tool")


def _check_room(what: str, tool: Entry, model: Entry) -> None:
    """Checks that a recipe's limits, which bound the bill of its call, cover its model's tokens."""
    for key in ("context_tokens", "max_output_tokens"):
        own, needed = getattr(tool.limits, key), getattr(model.limits, key)
        if own < needed:
            problem = f"limits.{key} {own} of {tool.name} is below {needed} of {model.name}"
            raise ConfigError(f"{what}: {problem}; raise it")


def _check_hedging(where: str, entry: Entry, prices: Prices) -> None:
    by_amount = (
        prices.input_nanousd_per_mtok,
        prices.output_nanousd_per_mtok,
        prices.second_nanousd,
    )
    billed_once = not entry.has_side_effects and not any(by_amount) and not entry.choices
    if entry.limits.hedge_after_s is not None and not billed_once:
        remedy = "leave hedge_after_s out, or set idempotent and prices by call only"
        raise ConfigError(f"{where}: a hedge would be billed twice or act twice; {remedy}")


def _sheet(path: str | Path, catalogue: Catalogue, base: Path) -> PriceSheet:
    where = f"price sheet {path}"
    rows = read(SheetFile, path, where, "catalogue.price_sheets").prices
    prices = {}
    for name, row in rows.items():
        entry = catalogue.entries.get(name)
        if entry is None:
            raise ConfigError(f"{where}: no entry {name}; {_known(name, catalogue.entries)}")
        prices[name] = prices_of(f"{where}: {name}", row, _names(name, entry.settings))
    return PriceSheet(_version(Path(path), base), prices)


def _known(name: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, list(names), n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"choose from {', '.join(names)}" if names else "there are none"


def _version(*paths: Path) -> str:
    """Returns the first file's name with a digest of the contents of all the files."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths))
    return f"{paths[0].stem}@{digest.hexdigest()[:8]}"
