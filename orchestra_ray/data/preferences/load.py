"""The user's preferences: from the configuration and its file to records.

A file is JSONL, one preference a line, with the cell that it belongs to: a policy trains on one
cell, and the others tell wordings and weights that it has not met from those that it has. What
stands in the configuration itself has no cell: it is for training, and for measuring where no file
holds anything out.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from orchestra_ray.config.errors import BadValue
from orchestra_ray.config.schema import CatalogueConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.records import Preference, ToolOption, ToolsetSample
from orchestra_ray.data.catalogue.keys import is_counted
from orchestra_ray.data.catalogue.prices import FORM
from orchestra_ray.data.catalogue.rows import Chance, Text


class Cell(StrEnum):
    """What of a pair the training pairs hold."""

    TRAIN = "train"  # both: it is one of them
    NEW_WORDING = "new_wording"  # its weights, said in other words
    NEW_VECTOR = "new_vector"  # its words, for weights that none of them has
    NEW_BOTH = "new_both"  # neither


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference with its place in the split. `wording` names the templates it was said by."""

    preference: Preference
    cell: Cell
    kind: str = ""  # of user
    wording: tuple[str, ...] = ()


def load_preferences(config: CatalogueConfig) -> list[Preference]:
    """Those to train on: the configuration's own, as often as their shares say, then the file's."""
    own, taken = _own(config), {preference.name for preference in config.preferences}
    filed = [pair.preference for pair in _pairs(config) if pair.cell is Cell.TRAIN]
    for preference in filed:
        if preference.name in taken:
            raise ConfigError(
                f"catalogue.preferences_path {config.preferences_path}: {preference.name} stands"
                " in catalogue.preferences too; rename one"
            )
    return own + filed


def load_heldout_preferences(config: CatalogueConfig, only: Sequence[str] = ()) -> list[Preference]:
    """Those to measure with: what the file holds out, or the configuration's own without any.

    only: the names of those to take; all of them where none is given.
    """
    heldout = [pair.preference for pair in _pairs(config) if pair.cell is not Cell.TRAIN]
    heldout = heldout or _own(config)
    by_name = {one.name: one for one in heldout}
    if missing := [name for name in only if name not in by_name]:
        remedy = f"choose from {', '.join(by_name)}"
        raise BadValue("evaluation.preferences", f"{missing[0]!r} is unknown", remedy)
    return [by_name[name] for name in only] or heldout


def fitting(preferences: Sequence[Preference], toolset: ToolsetSample) -> Sequence[Preference]:
    """Those that the draw can serve: they like no call, or one that it allows.

    All of them where it can serve none.
    """
    calls = [call for option in toolset.options for call in _calls(option)]

    def is_served(preference: Preference) -> bool:
        liked = {name for name, weight in preference.tools.items() if weight > 0}
        return not liked or any(is_counted(key, *call) for key in liked for call in calls)

    return [one for one in preferences if is_served(one)] or preferences


def read_pairs(path: str | Path) -> list[Pair]:
    """What `write_pairs` wrote; `ConfigError` names the line that cannot be used."""
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")  # JSON may hold other breaks
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"preferences {path}: cannot be read ({reason}); set catalogue.preferences_path"
        ) from None
    pairs: list[Pair] = []
    named: set[str] = set()
    for number, line in enumerate(lines, 1):
        if line.strip():
            pair = _pair(f"preferences {path}: line {number}", line)
            name = pair.preference.name
            if name in named:
                raise ConfigError(
                    f"preferences {path}: line {number}: {name} stands twice; names are unique"
                )
            named.add(name)
            pairs.append(pair)
    if not pairs:
        raise ConfigError(f"preferences {path}: is empty; write it with orchestra preferences make")
    return pairs


def write_pairs(path: str | Path, pairs: Iterable[Pair]) -> None:
    lines = (json.dumps(_as_row(pair), ensure_ascii=False) + "\n" for pair in pairs)
    Path(path).write_text("".join(lines), encoding="utf-8")


def _calls(option: ToolOption) -> list[tuple[str, str]]:
    """The calls that the offer allows: their identity and the model that does them, if any."""
    if option.choices:
        return [(option.identity, choice.identity) for choice in option.choices]
    return [(option.identity, option.identity if option.kind == "model" else "")]


@checked(config=FORM, kw_only=True)
class _Row:
    name: Text
    instruction: Text
    outcome: Chance
    cost: Chance
    latency: Chance
    cell: Cell
    tools: dict[str, Chance] = field(default_factory=dict)
    kind: str = ""
    wording: list[str] = field(default_factory=list)


_ROW = TypeAdapter(_Row)
_UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")


def _pair(where: str, line: str) -> Pair:
    try:
        row = _ROW.validate_json(line)
    except ValidationError as error:
        errors = error.errors()  # a misspelt key makes the right one missing: the former says more
        first = next((one for one in errors if one["type"] in _UNKNOWN_KEY), errors[0])
        key = ".".join(str(part) for part in first["loc"]) or "it"
        reason = " ".join(first["msg"].removeprefix("Value error, ").splitlines()[:1])
        raise ConfigError(f"{where}: {key}: {reason}; correct or remove it") from None
    preference = Preference(
        row.name, row.instruction, row.outcome, row.cost, row.latency, row.tools
    )
    return Pair(preference, row.cell, row.kind, tuple(row.wording))


def _as_row(pair: Pair) -> dict[str, object]:
    values = asdict(pair.preference)
    return {**values, "cell": pair.cell.value, "kind": pair.kind, "wording": list(pair.wording)}


def _own(config: CatalogueConfig) -> list[Preference]:
    return [
        Preference(p.name, p.instruction, p.outcome, p.cost, p.latency, p.tools)
        for p in config.preferences
        for _ in range(p.share)
    ]


def _pairs(config: CatalogueConfig) -> list[Pair]:
    return [] if config.preferences_path is None else read_pairs(config.preferences_path)
