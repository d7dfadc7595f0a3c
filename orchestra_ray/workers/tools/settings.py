"""Checks the settings of a catalogue entry against the dataclass of its backend."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.data.catalogue import Entry

T = TypeVar("T")


def settings_of(shape: type[T], entry: Entry, **given: Any) -> T:
    """Returns the entry's settings as `shape`; `given` are defaults from the entry's other fields.

    Raises `ConfigError` if a setting is unknown or has a wrong value.
    """
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
    """Yields (dotted key, known keys at its level) for each unknown key."""
    hints = get_type_hints(shape)
    known = [one.name for one in fields(shape)]
    for key, value in given.items():
        if key not in known:
            yield key, known
        elif isinstance(value, Mapping):
            for inner in (hints[key], *get_args(hints[key])):
                if is_dataclass(inner):
                    yield from ((f"{key}.{k}", names) for k, names in _unknown(inner, value))
