"""Lists a tool's arguments where its schema names them in branches or behind a root reference.

`named_arguments` returns all arguments that a schema allows; `prompt_schema` returns a schema for
prompts that lists them all in `properties`, since many chat templates read nothing else. Calls are
validated against the original schema. Pure functions of schemas that passed `check_schema`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

UNIONS = ("anyOf", "oneOf")
_LISTS = ("allOf", *UNIONS, "extends")
_SINGLE = ("if", "then", "else", "not", "extends")
_BY_NAME = ("dependentSchemas", "dependencies")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_OPEN = ("patternProperties", "additionalProperties", "unevaluatedProperties", *_REFERENCES)
_HOISTED = {"type", "properties", "required"}
MOST_STEPS = 64  # references and branches followed


def named_arguments(schema: Mapping[str, Any]) -> frozenset[str] | None:
    """Returns the names of all possible arguments; None if only validation can tell.

    These are the root's `properties`, if no other keyword can admit more: a branch with further
    properties, a pattern, a reference, or `additionalProperties`.
    """
    known = frozenset(_properties(schema))
    if schema.get("additionalProperties", False) is not False or any(
        key in schema for key in _OPEN if key != "additionalProperties"
    ):
        return None
    waiting, steps = list(_branches(schema)), 0
    while waiting:
        branch = waiting.pop()
        steps += 1
        brings_others = any(key in branch for key in _OPEN) or not known >= {*_properties(branch)}
        if brings_others or steps > MOST_STEPS:
            return None
        waiting += _branches(branch)
    return known


def prompt_schema(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the schema with all arguments in `properties`; unchanged if it has no branches."""
    if not _has_branches(schema):
        return schema
    merged = _merged(schema, schema, [MOST_STEPS])
    return _without_unused_definitions({**merged, "type": "object"})


def _merged(schema: Mapping[str, Any], root: Mapping[str, Any], left: list[int]) -> dict[str, Any]:
    """Returns the schema with the properties of its branches hoisted.

    `left[0]` is the remaining number of branches to merge.
    """
    merged = _without_reference(schema, root)
    properties, required = dict(_properties(merged)), _required(merged)
    for key in ("allOf", *UNIONS):
        branches = []
        for branch in _schemas(merged.get(key)):
            left[0] -= 1
            branches.append(_merged(branch, root, left) if left[0] > 0 else dict(branch))
            for name, inner in _properties(branches[-1]).items():
                _add(properties, name, inner)
        if not branches:
            continue
        needed = [_required(branch) for branch in branches]
        if key == "allOf":
            required += [name for names in needed for name in names]
        else:
            required += [n for n in needed[0] if all(n in names for names in needed)]
        merged[key] = [_rest(branch, properties, key == "allOf") for branch in branches]
        if not any(merged[key]):
            del merged[key]
    merged["properties"] = properties
    if required:
        merged["required"] = list(dict.fromkeys(required))
    return merged


def _has_branches(schema: Mapping[str, Any]) -> bool:
    return any(key in schema for key in ("$ref", "allOf", *UNIONS))


def _add(properties: dict[str, Any], name: str, inner: Any) -> None:
    """Adds a definition of a property; differing definitions become alternatives."""
    if name not in properties:
        properties[name] = inner
    elif properties[name] != inner:
        known = properties[name]
        several = isinstance(known, Mapping) and known.keys() == {"anyOf"}
        choices = known["anyOf"] if several else [known]
        properties[name] = {"anyOf": [*choices, *([inner] if inner not in choices else [])]}


def _rest(branch: Mapping[str, Any], hoisted: Mapping[str, Any], in_all: bool) -> dict[str, Any]:
    """Returns a branch without its hoisted parts."""
    if any(key in branch for key in _OPEN):  # these keywords depend on the properties beside them
        return dict(branch)
    own = {name: inner for name, inner in _properties(branch).items() if hoisted.get(name) != inner}
    rest = {key: value for key, value in branch.items() if key not in _HOISTED}
    if own:
        rest["properties"] = own
    if "required" in branch and not in_all:
        rest["required"] = branch["required"]
    return rest


def _without_reference(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the schema with its local `$ref` inlined; other references stay."""
    merged, seen = dict(schema), set()
    while isinstance(reference := merged.get("$ref"), str) and reference not in seen:
        target = _target(reference, root)
        if target is None:
            break
        seen.add(reference)
        beside = {key: value for key, value in merged.items() if key != "$ref" and value != {}}
        properties = {**_properties(target), **_properties(beside)}
        required = [*_required(target), *_required(beside)]
        merged = {**target, **beside}
        if properties:
            merged["properties"] = properties
        if required:
            merged["required"] = list(dict.fromkeys(required))
    return merged


def _target(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the target of a pointer into the root; None for any other reference."""
    if not reference.startswith("#/"):
        return None
    place: Any = root
    for part in unquote(reference[2:]).split("/"):
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(place, Mapping) and part in place:
            place = place[part]
        elif isinstance(place, list) and part.isdigit() and int(part) < len(place):
            place = place[int(part)]
        else:
            return None
    return place if isinstance(place, Mapping) and "$id" not in place else None


def _without_unused_definitions(schema: dict[str, Any]) -> dict[str, Any]:
    definitions = {"$defs", "definitions"}
    rest = {key: value for key, value in schema.items() if key not in definitions}
    return schema if any(f'"{key}"' in json.dumps(rest) for key in _REFERENCES) else rest


def _properties(schema: Any) -> Mapping[str, Any]:
    found = schema.get("properties") if isinstance(schema, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _required(schema: Mapping[str, Any]) -> list[str]:
    found = schema.get("required")
    return list(found) if isinstance(found, list | tuple) else []


def _schemas(value: Any) -> Sequence[Mapping[str, Any]]:
    """Returns the branches; none if any is a boolean, which names no properties."""
    branches = value if isinstance(value, list) else []
    return branches if all(isinstance(branch, Mapping) for branch in branches) else []


def _branches(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields the subschemas that apply to the same arguments."""
    found: list[Any] = [schema[key] for key in _SINGLE if key in schema]
    for key in _LISTS:
        found += schema[key] if isinstance(schema.get(key), list) else []
    for key in _BY_NAME:
        found += schema[key].values() if isinstance(schema.get(key), Mapping) else []
    yield from (one for one in found if isinstance(one, Mapping))
