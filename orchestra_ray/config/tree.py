"""Checks a raw YAML tree against the schema's dataclasses: names, nesting and types.

OmegaConf converts and checks the leaves. The walk over the tree is ours, because OmegaConf's errors
lose the path inside lists of records and inside sections; here every error names the full key.
"""

import difflib
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from orchestra_ray.config.errors import BadValue
from orchestra_ray.core.errors import first_line

_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    type(None): "null",
}


def typed_tree(record: type, raw: Any, prefix: str = "") -> dict[str, Any]:
    """Returns `raw` with enum members for their values or names.

    Raises `BadValue` if `raw` does not fit `record`.
    """
    hints = get_type_hints(record)
    section = prefix.rstrip(".") or "the configuration"
    if not isinstance(raw, Mapping):
        problem = "is empty" if raw is None else f"is {raw!r}, not keys and values"
        raise BadValue(section, problem, _give(prefix, hints))
    for name in raw:
        if name not in hints:
            raise BadValue(f"{prefix}{name}", "no such key", _hint(prefix, str(name), hints))
    blank = OmegaConf.structured(record)
    return {name: _value(blank, name, hints[name], raw[name], prefix) for name in raw}


def _value(blank: DictConfig, name: str, hint: Any, raw: Any, prefix: str) -> Any:
    key = f"{prefix}{name}"
    inner, optional, many = _record_of(hint)
    if inner is not None and many:
        if not isinstance(raw, list):
            raise BadValue(
                key, f"is {raw!r}, not a list", f"write the whole list, {key}: [{{...}}]"
            )
        return [typed_tree(inner, item, f"{key}[{i}].") for i, item in enumerate(raw)]
    if inner is not None and not (raw is None and optional):
        return typed_tree(inner, raw, f"{key}.")
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _member(hint, raw, key)
    return _leaf(blank, name, hint, raw, prefix)


def _record_of(hint: Any) -> tuple[type | None, bool, bool]:
    """Returns the dataclass of a type hint, whether it is optional, and whether it is in a list."""
    arguments = get_args(hint)
    many = get_origin(hint) is list
    optional = type(None) in arguments
    candidate = arguments[0] if many or optional else hint
    record = candidate if isinstance(candidate, type) and is_dataclass(candidate) else None
    return record, optional, many


def _member(kind: type[Enum], raw: Any, key: str) -> Enum:
    wanted = str(raw).lower()
    for member in kind:
        if wanted in (str(member.value).lower(), member.name.lower()):
            return member
    choices = ", ".join(str(member.value) for member in kind)
    raise BadValue(key, f"{raw!r} is unknown", f"choose from {choices}")


def _leaf(blank: DictConfig, name: str, hint: Any, raw: Any, prefix: str) -> Any:
    try:
        OmegaConf.update(blank, name, raw)
    except OmegaConfBaseException as error:
        key = f"{prefix}{error.full_key or name}"
        problem = first_line(error).rstrip(".")
        raise BadValue(key, problem, f"{prefix}{name} takes {_words(hint)}") from None
    return raw


def _words(hint: Any) -> str:
    """Returns the description of a type: "a number or null", "a list, each text"."""
    inner = [_words(argument) for argument in get_args(hint)]
    match get_origin(hint):
        case None:
            return _WORDS[hint]
        case kind if kind is list:
            return f"a list, each {inner[0]}"
        case kind if kind is dict:
            return f"keys, each with {inner[1]}"
        case _:
            return " or ".join(inner)


def _hint(prefix: str, name: str, hints: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, hints, n=1, cutoff=0.5)
    return f"did you mean {prefix}{near[0]}?" if near else _give(prefix, hints)


def _give(prefix: str, hints: Mapping[str, Any]) -> str:
    section = prefix.rstrip(".")
    return f"the keys{' of ' + section if section else ''} are {', '.join(hints)}"
