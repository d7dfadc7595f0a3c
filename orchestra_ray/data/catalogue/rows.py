"""File schemas of catalogues and price sheets, before names are resolved.

`read` returns the validated contents of a YAML file. Every mistake in it is a one-line
`ConfigError` that names the file, the entry and the key.
"""

import difflib
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from orchestra_ray.core.errors import ConfigError, first_line
from orchestra_ray.data.catalogue.entries import Isolation, Limits
from orchestra_ray.data.catalogue.parsers import Parser
from orchestra_ray.data.catalogue.prices import FORM, Amount, PriceRow, unit_hint

T = TypeVar("T")


def _in_unit_interval(value: float) -> float:
    if not 0 <= value <= 1:
        raise ValueError("it must lie in [0, 1]")
    return value


def _filled(value: str) -> str:
    if not value.strip():
        raise ValueError("it is empty")
    return value


Chance = Annotated[float, Field(strict=True), AfterValidator(_in_unit_interval)]
Text = Annotated[str, AfterValidator(_filled)]


@dataclass(config=FORM, kw_only=True)
class Row:
    name: Text
    description: Text
    backend: str
    prices: PriceRow = Field(default_factory=PriceRow)
    latency_s: Amount = 0.0
    limits: Limits = Limits()
    version: str = "1"
    isolation: Isolation | None = None  # None: that of the backend
    parser: Parser = Parser.TEXT
    offered: bool = True
    settings: dict[str, Any] = Field(default_factory=dict)


@dataclass(config=FORM, kw_only=True)
class ModelRow(Row):
    skill: dict[str, Chance] = Field(default_factory=dict)
    output_tokens: Annotated[int, Field(ge=0)] = 500


@dataclass(config=FORM, kw_only=True)
class ChoiceRow:
    name: Text
    model: str
    description: Text
    latency_s: Amount


@dataclass(config=FORM, kw_only=True)
class ToolRow(Row):
    parameters: dict[str, Any] = Field(default_factory=dict)
    presence: Chance = 1.0
    choices: list[ChoiceRow] = Field(default_factory=list)
    runs: str | None = None
    terminal: bool = False


@dataclass(config=FORM)
class CatalogueFile:
    models: list[ModelRow] = Field(default_factory=list)
    tools: list[ToolRow] = Field(default_factory=list)


@dataclass(config=FORM)
class SheetFile:
    prices: dict[str, PriceRow]


_RENAMED = {"executor": "backend"}  # former key: current key
_UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")
_SECTIONS: dict[str, type[Any]] = {
    "models": ModelRow,
    "tools": ToolRow,
    "choices": ChoiceRow,
    "limits": Limits,
    "prices": PriceRow,
}


def read(shape: type[T], path: str | Path, where: str, key: str) -> T:
    """Returns the contents of the file at `path`, named by the configuration key `key`."""
    tree = _tree(path, where, key)
    try:
        return TypeAdapter(shape).validate_python(tree)
    except ValidationError as error:
        errors = error.errors()  # a misspelt key also reports the right one as missing
        first = next((one for one in errors if one["type"] in _UNKNOWN_KEY), errors[0])
        raise ConfigError(f"{where}: {_problem(first, shape, tree)}") from None


def _tree(path: str | Path, where: str, key: str) -> Any:
    try:
        tree = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except FileNotFoundError:
        raise ConfigError(f"{where}: no such file; set {key}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: cannot be read ({first_line(error)}); set {key}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {_mark(error)}; correct the YAML there") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{where}: {error.full_key}: {first_line(error)}; correct it") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{where}: is a list; write its sections as keys, such as `models:`")
    return tree


def _problem(error: ErrorDetails, shape: type[Any], tree: Any) -> str:
    """Returns one line: the entry, the key and the mistake."""
    place, kind = list(error["loc"]), error["type"]
    entry = ""
    if len(place) > 1 and place[0] in ("models", "tools") and isinstance(place[1], int):
        row = tree[place[0]][place[1]]
        name = row.get("name") if isinstance(row, dict) else None
        entry, place = f"{name or f'{place[0]}[{place[1]}]'}: ", place[2:]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)[1:]
    if kind in _UNKNOWN_KEY:
        return f"{entry}{key}: no such key; {_hint(error['loc'], shape)}"
    if kind in ("missing", "missing_argument"):
        return f"{entry}{key} is missing; give it"
    reason = error["msg"].removeprefix("Value error, ").replace("Input should", "it should")
    line = " ".join(reason.splitlines()[:1])
    return f"{entry}{key} is {error['input']!r}; {line}"


def _hint(loc: tuple[int | str, ...], shape: type[Any]) -> str:
    name = str(loc[-1])
    section = next((part for part in reversed(loc[:-1]) if part in _SECTIONS), None)
    if section == "prices":
        return unit_hint(name)
    if name in _RENAMED:
        return f"write {_RENAMED[name]}"
    keys = [field.name for field in fields(_SECTIONS.get(str(section), shape))]
    near = difflib.get_close_matches(name, keys, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"the keys are {', '.join(keys)}"


def _mark(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return first_line(error)
