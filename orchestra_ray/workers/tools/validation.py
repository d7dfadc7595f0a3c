"""Validates a tool call before it runs: its name and its arguments.

An invalid call raises `Fault`: an observation that names the error, costs nothing and is counted
under its class. No schema and no arguments raise anything else, access the network or take long,
see `catalogue.schemas`.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jsonschema

from orchestra_ray.core.errors import first_line
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.records import ToolOption, ToolsetSample
from orchestra_ray.data.catalogue import resolve_choice
from orchestra_ray.data.catalogue.arguments import UNIONS, named_arguments
from orchestra_ray.data.catalogue.schemas import (
    MAX_DEPTH,
    BoundedValidator,
    ValidationLimitExceeded,
    depth_of,
)
from orchestra_ray.data.catalogue.signatures import ASK

_ASK_SCHEMA = {
    "type": "object",
    "properties": {"model": {"type": "string"}},
    "required": ["model"],
}
_FORMS_SHOWN = 4  # of a union none of whose forms fits
_TEXT_CHARACTERS = 400


def resolve(toolset: ToolsetSample, name: str, arguments: Mapping[str, Any]) -> ToolOption:
    """Returns the option that a call names; raises `Fault` if its arguments do not fit its schema.

    For a recipe, returns the option as performed by the chosen model.
    """
    if name == ASK:
        check_arguments(_ASK_SCHEMA, arguments)
        return _option(toolset, arguments["model"], "model")
    option = _option(toolset, name, "tool")
    if option.choices:
        check_arguments(_ASK_SCHEMA, arguments)
        by_model = resolve_choice(option, arguments["model"])
        if by_model is None:
            raise _unknown("model", arguments["model"], option.choices)
        return by_model
    check_arguments(option.parameters, arguments)
    return option


def check_arguments(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Raises `Fault` if an argument is missing, unknown or does not fit its schema.

    If other keywords than the root's `properties` can name arguments, the schema alone decides
    whether an argument is unknown.
    """
    if depth_of(arguments) > MAX_DEPTH:
        raise Fault(FaultKind.BAD_INPUT, f"arguments are nested deeper than {MAX_DEPTH} levels")
    required, named = schema.get("required"), named_arguments(schema)
    for name in required if isinstance(required, list | tuple) else ():
        if name not in arguments:
            raise Fault(FaultKind.MISSING_ARGUMENT, f"argument {name} is missing")
    for name in arguments:
        if named is not None and name not in named:
            raise Fault(FaultKind.EXTRA_ARGUMENT, f"there is no argument {name}")
    error = _first_error(schema, dict(arguments))
    if error is not None:
        raise Fault(FaultKind.WRONG_TYPE, _message(error)[:_TEXT_CHARACTERS])


def _message(error: jsonschema.ValidationError) -> str:
    """Describes an error by the names of the arguments; for a union, one error per form."""
    path = ".".join(str(part) for part in error.absolute_path)
    where = f"argument {path}" if path else "the arguments"
    if error.validator in UNIONS and error.context:
        forms: dict[Any, str] = {}
        for inner in error.context:
            forms.setdefault(next(iter(inner.relative_schema_path), id(inner)), _message(inner))
        texts = list(dict.fromkeys(forms.values()))[:_FORMS_SHOWN]
        return f"{where} must fit one of {len(forms)} forms: {'; or '.join(texts)}"
    if error.validator == "oneOf":
        return f"{where} fit more than one of the forms of which one is wanted"
    if error.validator == "type":
        return f"{where} must be of type {error.validator_value}"
    return f"{where}: {error.message}" if path else error.message


def _first_error(
    schema: Mapping[str, Any], arguments: Mapping[str, Any]
) -> jsonschema.ValidationError | None:
    try:
        return _validator(_Frozen(schema)).first_error(arguments)
    except ValidationLimitExceeded as error:
        raise Fault(FaultKind.BAD_INPUT, f"the arguments cannot be checked: {error}") from None
    except Exception as error:  # the schema is a third party's; it must not end the episode
        why = f"{type(error).__name__}: {first_line(error)}"[:200]
        raise Fault(FaultKind.UNAVAILABLE, f"its schema cannot be used ({why})") from None


class _Frozen:
    """A schema as a cache key, by identity: the catalogue's schemas live as long as the process."""

    def __init__(self, schema: Mapping[str, Any]):
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frozen) and other.schema is self.schema


@lru_cache(maxsize=1024)
def _validator(frozen: _Frozen) -> BoundedValidator:
    return BoundedValidator(frozen.schema)


def _option(toolset: ToolsetSample, alias: str, kind: str) -> ToolOption:
    option = toolset.option(alias)
    if option is None or option.kind != kind:
        raise _unknown(kind, alias, [option for option in toolset.options if option.kind == kind])
    return option


def _unknown(kind: str, alias: str, known: Sequence[ToolOption]) -> Fault:
    names = ", ".join(option.alias for option in known) or "none"
    return Fault(FaultKind.UNKNOWN_TOOL, f"there is no {kind} {alias}; choose from: {names}")
