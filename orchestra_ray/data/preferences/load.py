"""Loads users' preferences from the configuration and its file.

A file is JSONL, one preference a line, with its split: a policy trains on one split, and the others
test phrasings and weights that it has not seen. Preferences in the configuration itself have no
split: they are for training, and also for evaluation if no file holds any out.
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


class Split(StrEnum):
    """The split of a pair, by the parts of it that occur in training pairs."""

    TRAIN = "train"  # a training pair
    NEW_WORDING = "new_wording"  # known weights in new phrasings
    NEW_VECTOR = "new_vector"  # new weights in known templates
    NEW_BOTH = "new_both"  # new weights in new phrasings


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference with its split. `templates` names the templates of its instruction."""

    preference: Preference
    split: Split
    kind: str = ""  # of user
    templates: tuple[str, ...] = ()


def load_preferences(config: CatalogueConfig) -> list[Preference]:
    """Returns the training preferences: the configuration's, repeated by share, then the file's."""
    own, taken = _own(config), {preference.name for preference in config.preferences}
    filed = [pair.preference for pair in _pairs(config) if pair.split is Split.TRAIN]
    for preference in filed:
        if preference.name in taken:
            raise ConfigError(
                f"catalogue.preferences_path {config.preferences_path}: {preference.name} is"
                " also in catalogue.preferences; rename one"
            )
    return own + filed


def load_heldout_preferences(config: CatalogueConfig, only: Sequence[str] = ()) -> list[Preference]:
    """Returns the evaluation preferences: the file's held-out ones, else the configuration's.

    only: names of the preferences to return; empty: all.
    """
    heldout = [pair.preference for pair in _pairs(config) if pair.split is not Split.TRAIN]
    heldout = heldout or _own(config)
    by_name = {one.name: one for one in heldout}
    if missing := [name for name in only if name not in by_name]:
        remedy = f"choose from {', '.join(by_name)}"
        raise BadValue("evaluation.preferences", f"{missing[0]!r} is unknown", remedy)
    return [by_name[name] for name in only] or heldout


def servable(preferences: Sequence[Preference], toolset: ToolsetSample) -> Sequence[Preference]:
    """Returns the preferences that like no call, or a call that the toolset allows; else all."""
    calls = [call for option in toolset.options for call in _calls(option)]

    def is_served(preference: Preference) -> bool:
        liked = {name for name, weight in preference.tools.items() if weight > 0}
        return not liked or any(is_counted(key, *call) for key in liked for call in calls)

    return [one for one in preferences if is_served(one)] or preferences


def read_pairs(path: str | Path) -> list[Pair]:
    """Returns the pairs of a file of `write_pairs`; `ConfigError` names an unusable line."""
    try:
        lines = (
            Path(path).read_text(encoding="utf-8").split("\n")
        )  # JSON strings may hold other line breaks
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
                    f"preferences {path}: line {number}: {name} occurs twice; names are unique"
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
    """Returns the (identity, model) of the calls that an option allows; "" for no model."""
    if option.choices:
        return [(option.identity, choice.identity) for choice in option.choices]
    return [(option.identity, option.identity if option.kind == "model" else "")]


@checked(config=FORM, kw_only=True)
class _Row:
    """A line of the file; the fields are its keys."""

    name: Text
    instruction: Text
    outcome: Chance
    cost: Chance
    latency: Chance
    cell: Split
    tools: dict[str, Chance] = field(default_factory=dict)
    kind: str = ""
    wording: list[str] = field(default_factory=list)


_ROW = TypeAdapter(_Row)
_UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")


def _pair(where: str, line: str) -> Pair:
    try:
        row = _ROW.validate_json(line)
    except ValidationError as error:
        errors = error.errors()  # a misspelt key also reports the right one as missing
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
    return {
        **values,
        "cell": pair.split.value,
        "kind": pair.kind,
        "wording": list(pair.templates),
    }


def _own(config: CatalogueConfig) -> list[Preference]:
    return [
        Preference(p.name, p.instruction, p.outcome, p.cost, p.latency, p.tools)
        for p in config.preferences
        for _ in range(p.share)
    ]


def _pairs(config: CatalogueConfig) -> list[Pair]:
    return [] if config.preferences_path is None else read_pairs(config.preferences_path)
