"""What is wrong with a call before anything runs: its JSON, its name, its arguments.

Each fault becomes an observation that names it, costs nothing and is counted under its class. No
schema and no arguments raise anything else, reach outside or take long, see `catalogue.schemas`.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jsonschema

from orchestra_ray.catalogue import chosen
from orchestra_ray.catalogue.schemas import MAX_DEPTH, BoundedValidator, TooMuch, depth_of
from orchestra_ray.catalogue.signatures import ASK
from orchestra_ray.core.records import Draw, Offer
from orchestra_ray.tools.tool import Fault, FaultKind

_ASK_SCHEMA = {
    "type": "object",
    "properties": {"model": {"type": "string"}},
    "required": ["model"],
}
_OTHER_SOURCES = {"$ref", "$dynamicRef", "$recursiveRef", "allOf", "anyOf", "oneOf", "if"} | {
    "patternProperties",
    "dependentSchemas",
    "dependencies",
    "extends",
}


def resolve(draw: Draw, name: str, arguments: Mapping[str, Any]) -> Offer:
    """The offer that a call means, with arguments that fit its schema; else raises `Fault`.

    Of a recipe it is the offer as done by the model that is chosen.
    """
    if name == ASK:
        check_arguments(_ASK_SCHEMA, arguments)
        return _offer(draw, arguments["model"], "model")
    offer = _offer(draw, name, "tool")
    if offer.choices:
        check_arguments(_ASK_SCHEMA, arguments)
        by_model = chosen(offer, arguments["model"])
        if by_model is None:
            raise _unknown("model", arguments["model"], offer.choices)
        return by_model
    check_arguments(offer.parameters, arguments)
    return offer


def check_arguments(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Every needed argument there, none beside the known ones, each as its schema says.

    Where the schema gets its properties from elsewhere, it says itself which others it takes.
    """
    if depth_of(arguments) > MAX_DEPTH:
        raise Fault(FaultKind.BAD_INPUT, f"arguments are nested deeper than {MAX_DEPTH} levels")
    known, required = schema.get("properties", {}), schema.get("required")
    for name in required if isinstance(required, list | tuple) else ():
        if name not in arguments:
            raise Fault(FaultKind.MISSING_ARGUMENT, f"argument {name} is missing")
    if not schema.get("additionalProperties") and _OTHER_SOURCES.isdisjoint(schema):
        for name in arguments:
            if name not in known:
                raise Fault(FaultKind.EXTRA_ARGUMENT, f"there is no argument {name}")
    error = _first_error(schema, dict(arguments))
    if error is not None:
        where = ".".join(str(part) for part in error.absolute_path) or "the arguments"
        wanted = error.schema.get("type") if isinstance(error.schema, Mapping) else None
        text = (
            f"argument {where} must be of type {wanted}"
            if error.validator == "type"
            else error.message
        )
        raise Fault(FaultKind.WRONG_TYPE, text)


def _first_error(
    schema: Mapping[str, Any], arguments: Mapping[str, Any]
) -> jsonschema.ValidationError | None:
    try:
        return _validator(_Frozen(schema)).first_error(arguments)
    except TooMuch as error:
        raise Fault(FaultKind.BAD_INPUT, f"the arguments cannot be checked: {error}") from None
    except Exception as error:  # the schema is anybody's; it must not end the episode
        why = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise Fault(FaultKind.UNAVAILABLE, f"its schema cannot be used ({why})") from None


class _Frozen:
    """A schema as a key of the cache: the catalogue's schemas live as long as the process."""

    def __init__(self, schema: Mapping[str, Any]):
        self.schema = schema

    def __hash__(self) -> int:
        return id(self.schema)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Frozen) and other.schema is self.schema


@lru_cache(maxsize=1024)
def _validator(frozen: _Frozen) -> BoundedValidator:
    return BoundedValidator(frozen.schema)


def _offer(draw: Draw, alias: str, kind: str) -> Offer:
    offer = draw.offer(alias)
    if offer is None or offer.kind != kind:
        raise _unknown(kind, alias, [offer for offer in draw.offers if offer.kind == kind])
    return offer


def _unknown(kind: str, alias: str, known: Sequence[Offer]) -> Fault:
    names = ", ".join(offer.alias for offer in known) or "none"
    return Fault(FaultKind.UNKNOWN_TOOL, f"there is no {kind} {alias}; choose from: {names}")
