"""Checks the JSON schemas of tools before any call, and validates calls in bounded time.

Schemas are self-contained. No reference is ever fetched: a schema is unusable if a reference does
not resolve inside it (to a pointer, an anchor or an `$id`), if a chain of references never descends
into the arguments, if its dialect is unknown, or if it is nested too deeply to pickle. Validation
stops after `MAX_STEPS` keywords and after `PATTERN_S` in patterns, so that neither a schema nor
arguments can block the event loop. Patterns never use Python's `re`, which has no timeout.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import regex
from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.protocols import Validator
from referencing.jsonschema import lookup_recursive_ref

from orchestra_ray.data.catalogue.references import (
    BadSchema,
    check_form,
    check_references,
    dialect_of,
    id_of,
    resolver_of,
    specification_of,
)

MAX_DEPTH = 64  # of schemas and arguments; pickle fails at a few hundred
MAX_STEPS = 30_000  # a few tenths of a second
PATTERN_S = 0.2  # in all patterns of one validation
_LITERALS = ("const", "enum", "default", "examples")  # keywords that hold values, not schemas


class ValidationLimitExceeded(Exception):
    """Raised if a validation exceeds its limit of steps or of pattern time."""


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises `BadSchema` if arguments cannot be validated against the schema."""
    if depth_of(schema) > MAX_DEPTH:
        raise BadSchema(f"it is nested deeper than {MAX_DEPTH} levels", "make it flatter")
    _check_keys(schema)
    try:
        form = _form_of(schema)
        check_form(form, schema)
        check_references(form, schema)
    except BadSchema:
        raise
    except Exception as error:  # third-party schemas; the library raises undocumented errors
        raise BadSchema(f"it cannot be checked ({type(error).__name__}: {error})") from None


def depth_of(value: Any) -> int:
    """Returns the nesting depth of lists and objects, at most just above `MAX_DEPTH`."""
    depth, level = 0, {id(value): value}  # by id: shared values count once
    while depth <= MAX_DEPTH and (level := {i: v for i, v in level.items() if _is_nest(v)}):
        level = {id(inner): inner for outer in level.values() for inner in _inside(outer)}
        depth += 1
    return depth


class BoundedValidator:
    """Validates calls against a schema, which need not have passed `check_schema`."""

    def __init__(self, schema: Mapping[str, Any]):
        # Inner `$schema` keys are removed: they make jsonschema leave the bounded validator.
        form, plain = _form_of(schema), _without_dialect(schema)
        validator: Any = _bounded(form)
        self._validator = validator(plain, _resolver=resolver_of(form, plain))

    def first_error(self, value: Mapping[str, Any]) -> ValidationError | None:
        """Returns the first violation, or None.

        Raises `ValidationLimitExceeded`, or an error of the library if the schema is unusable.
        """
        _remaining.steps, _remaining.pattern_s = MAX_STEPS, PATTERN_S
        return next(self._validator.iter_errors(value), None)


def _check_keys(value: Any) -> None:
    for key in value if isinstance(value, Mapping) else ():
        if not isinstance(key, str):
            raise BadSchema(f"the key {key!r} is not text", "quote it")
    for inner in _inside(value):
        _check_keys(inner)


def _is_nest(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _inside(value: Any) -> Iterator[Any]:
    if _is_nest(value):
        yield from value.values() if isinstance(value, Mapping) else value


_NEWEST = id_of(Draft202012Validator.META_SCHEMA)
_FORMS: Mapping[str, type[Validator]] = {
    dialect_of(id_of(form.META_SCHEMA)): form
    for form in (
        validators.Draft3Validator,
        validators.Draft4Validator,
        validators.Draft6Validator,
        validators.Draft7Validator,
        validators.Draft201909Validator,
        Draft202012Validator,
    )
}


def _form_of(schema: Mapping[str, Any]) -> type[Validator]:
    """Returns jsonschema's validator class for the schema's dialect."""
    stated = schema.get("$schema", _NEWEST)
    form = _FORMS.get(dialect_of(stated)) if isinstance(stated, str) else None
    if form is None:
        remedy = f"leave it out, or write {_NEWEST}"
        raise BadSchema(f"$schema {stated} is not a known dialect of JSON Schema", remedy)
    return form


def _without_dialect(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {
            key: inner if key in _LITERALS else _without_dialect(inner)
            for key, inner in schema.items()
            if key != "$schema" or not isinstance(inner, str)
        }
    return [_without_dialect(inner) for inner in schema] if isinstance(schema, list) else schema


class _Remaining(threading.local):
    """Remaining limits of the current thread's validation."""

    steps = 0
    pattern_s = 0.0


_remaining = _Remaining()
Keyword = Callable[[Any, Any, Any, Any], Any]


@cache
def _bounded(form: type[Validator]) -> type[Validator]:
    """Returns the dialect's validator class with limits on each validation."""
    keywords = {
        **form.VALIDATORS,
        **{k: own for k, own in _OVERRIDES.items() if k in form.VALIDATORS},
    }
    counted = {name: _counted(keyword) for name, keyword in keywords.items()}
    return validators.extend(form, counted)


def _counted(keyword: Keyword) -> Keyword:
    def count(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        compares = keyword is _UNIQUE_ITEMS and not _sorts(instance)
        _spend(1 + len(instance) ** 2 // 20 if compares else 1)
        return keyword(validator, value, instance, schema)

    return count


_UNIQUE_ITEMS = Draft202012Validator.VALIDATORS["uniqueItems"]


def _sorts(instance: Any) -> bool:
    """Returns whether `uniqueItems` sorts; otherwise it compares all pairs."""
    kinds = {type(item) for item in instance} if isinstance(instance, list) else set()
    return kinds.isdisjoint({dict, list}) and len(kinds) < 2


def _spend(steps: int) -> None:
    _remaining.steps -= steps
    if _remaining.steps < 0:
        raise ValidationLimitExceeded(f"it takes more than {MAX_STEPS} steps")


def _matches(pattern: str, text: str) -> bool:
    _spend(1)
    started_s = time.monotonic()
    try:
        return regex.search(pattern, text, timeout=max(_remaining.pattern_s, 1e-6)) is not None
    except TimeoutError:
        raise ValidationLimitExceeded(
            f"the pattern {pattern} takes more than {PATTERN_S:g} s"
        ) from None
    finally:
        _remaining.pattern_s -= time.monotonic() - started_s


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _matches(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, schemas: Mapping[str, Any], instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, inner in schemas.items():
            for key, value in instance.items():
                if _matches(pattern, key):
                    yield from validator.descend(value, inner, path=key, schema_path=pattern)


def _additional_properties(
    validator: Any, inner: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object") and inner is not True:
        extra = [key for key in instance if not _names(schema, key)]
        if inner is False and extra:
            names = ", ".join(map(repr, extra))
            yield ValidationError(f"Additional properties are not allowed: {names}")
        for key in extra if inner is not False else ():
            yield from validator.descend(instance[key], inner, path=key)


def _unevaluated_properties(
    validator: Any, inner: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object") and inner is not True:
        others = {name: value for name, value in schema.items() if name != "unevaluatedProperties"}
        known = _evaluated(validator.evolve(schema=others), instance)
        extra = [key for key in instance if key not in known]
        bad = [
            key for key in extra if next(validator.descend(instance[key], inner), None) is not None
        ]
        if bad:
            names = ", ".join(map(repr, bad))
            yield ValidationError(f"Unevaluated properties are not allowed: {names}")


def _names(schema: Mapping[str, Any], key: str) -> bool:
    patterns = schema.get("patternProperties", ())
    return key in schema.get("properties", ()) or any(_matches(one, key) for one in patterns)


def _evaluated(validator: Any, instance: Mapping[str, Any]) -> set[str]:
    """Returns the properties of an instance that a schema or its applied subschemas evaluate.

    `validator` is the validator of the schema; the instance must satisfy it.
    """
    schema = validator.schema
    _spend(1)
    if isinstance(schema, bool):
        return set()
    if "additionalProperties" in schema or "unevaluatedProperties" in schema:
        return set(instance)
    found = {key for key in instance if _names(schema, key)}
    for applied in _applied(validator, instance):
        found |= _evaluated(applied, instance)
    return found


def _applied(validator: Any, instance: Mapping[str, Any]) -> Iterator[Any]:
    """Yields validators of the subschemas that apply to the instance and that it satisfies."""
    schema, resolver = validator.schema, validator._resolver
    dialect = specification_of(type(validator))

    def within(inner: Any) -> Any:
        where = resolver.in_subresource(dialect.create_resource(inner))
        return validator.evolve(schema=inner, _resolver=where)

    for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
        if keyword in schema and keyword in validator.VALIDATORS:
            recursive = keyword == "$recursiveRef"
            found = (
                lookup_recursive_ref(resolver) if recursive else resolver.lookup(schema[keyword])
            )
            yield validator.evolve(schema=found.contents, _resolver=found.resolver)
    for keyword in ("allOf", "anyOf", "oneOf"):
        inners = map(within, schema.get(keyword, ()))
        yield from (inner for inner in inners if inner.is_valid(instance))
    for key, inner in schema.get("dependentSchemas", {}).items():
        if key in instance:
            yield within(inner)
    if "if" in schema:
        condition = within(schema["if"])
        holds = condition.is_valid(instance)
        yield from [condition] if holds else []
        branch = "then" if holds else "else"
        yield from [within(schema[branch])] if branch in schema else []


_OVERRIDES: Mapping[str, Keyword] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "unevaluatedProperties": _unevaluated_properties,
}
