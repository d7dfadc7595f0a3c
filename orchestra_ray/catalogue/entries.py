"""The catalogue file: what can be called, by whom it is executed, and what it costs.

Prices stand in the file as dollars (per million tokens, per call) and in the records as integer
nano-dollars. Loading checks every entry; a bad one is a `ConfigError` that names file and entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import nanousd


@dataclass
class _ModelRow:
    name: str = MISSING
    description: str = MISSING
    executor: str = "simulated"
    input_usd_per_mtok: float = MISSING
    output_usd_per_mtok: float = MISSING
    latency_s: float = MISSING
    output_tokens: int = MISSING
    skill: dict[str, float] = MISSING


@dataclass
class _ToolRow:
    name: str = MISSING
    description: str = MISSING
    executor: str = MISSING
    parameters: dict[str, str] = field(default_factory=dict)
    call_usd: float = 0.0
    latency_s: float = 0.0
    presence: float = 1.0


@dataclass
class _File:
    models: list[_ModelRow] = field(default_factory=list)
    tools: list[_ToolRow] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model that can be asked. `skill` is for simulated ones: P(right) by family."""

    name: str
    description: str
    executor: str
    input_nanousd_per_mtok: int
    output_nanousd_per_mtok: int
    latency_s: float
    output_tokens: int
    skill: Mapping[str, float]

    def skill_at(self, family: str) -> float:
        return self.skill.get(family, self.skill["default"])


@dataclass(frozen=True, slots=True)
class ToolEntry:
    """A tool with its arguments (name -> JSON type) and its chance to be in a draw."""

    name: str
    description: str
    executor: str
    parameters: Mapping[str, str]
    call_nanousd: int
    latency_s: float
    presence: float


@dataclass(frozen=True, slots=True)
class Catalogue:
    models: Mapping[str, ModelEntry]
    tools: Mapping[str, ToolEntry]


def load_catalogue(path: str | Path) -> Catalogue:
    """The catalogue in a YAML file; `ConfigError` where it cannot be read or an entry is bad."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(_File), OmegaConf.load(path))
        rows: Any = OmegaConf.to_object(merged)
    except FileNotFoundError:
        raise ConfigError(f"catalogue {path}: no such file; set catalogue.path") from None
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"catalogue {path}: {error.full_key}: {reason}") from None
    names = [row.name for row in (*rows.models, *rows.tools)]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"catalogue {path}: {name} stands twice; names are unique")
    return Catalogue(
        models={row.name: _model(row, path) for row in rows.models},
        tools={row.name: _tool(row, path) for row in rows.tools},
    )


def _model(row: _ModelRow, path: str | Path) -> ModelEntry:
    where = f"catalogue {path}: {row.name}"
    _not_negative(where, row, "input_usd_per_mtok", "output_usd_per_mtok", "latency_s")
    _not_negative(where, row, "output_tokens")
    if "default" not in row.skill:
        raise ConfigError(f"{where}: skill has no default; add `default: 0.5`")
    for family, chance in row.skill.items():
        _probability(where, f"skill.{family}", chance)
    return ModelEntry(
        name=row.name,
        description=row.description,
        executor=row.executor,
        input_nanousd_per_mtok=nanousd(row.input_usd_per_mtok),
        output_nanousd_per_mtok=nanousd(row.output_usd_per_mtok),
        latency_s=row.latency_s,
        output_tokens=row.output_tokens,
        skill=row.skill,
    )


def _tool(row: _ToolRow, path: str | Path) -> ToolEntry:
    where = f"catalogue {path}: {row.name}"
    _not_negative(where, row, "call_usd", "latency_s")
    _probability(where, "presence", row.presence)
    return ToolEntry(
        name=row.name,
        description=row.description,
        executor=row.executor,
        parameters=row.parameters,
        call_nanousd=nanousd(row.call_usd),
        latency_s=row.latency_s,
        presence=row.presence,
    )


def _not_negative(where: str, row: _ModelRow | _ToolRow, *keys: str) -> None:
    for key in keys:
        if getattr(row, key) < 0:
            raise ConfigError(f"{where}: {key} is {getattr(row, key)}; it cannot be negative")


def _probability(where: str, key: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{where}: {key} is {value}; it must lie in [0, 1]")
