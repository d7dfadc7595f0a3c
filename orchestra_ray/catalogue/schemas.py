"""JSON schemas of tools: what is wrong with one is told before a call, and a call is bounded.

A schema stands alone. No reference is ever fetched: one that the schema itself does not answer (by
a pointer, an anchor or an `$id` inside it) makes the schema unusable, as do a chain of references
that never gets further into the arguments, an unknown dialect, and a depth that no call could be
packed with. Validation stops after `MAX_STEPS` keywords, and a pattern after `PATTERN_S`, so that
neither a schema nor arguments can hold up the event loop that calls it.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import regex
from jsonschema import Draft202012Validator, SchemaError, ValidationError, validators
from jsonschema.protocols import Validator
from jsonschema_specifications import REGISTRY as SPECIFICATIONS
from referencing import Registry
from referencing import jsonschema as dialects
from referencing.exceptions import Unresolvable

MAX_DEPTH = 64  # of a schema and of arguments; pickle gives up at some hundred
MAX_STEPS = 30_000  # some tenths of a second
PATTERN_S = 0.1
_LITERALS = ("const", "enum", "default", "examples")  # these hold values and no schemas
_SAME_PLACE = ("not", "if", "then", "else", "extends", "allOf", "anyOf", "oneOf", "type")
_SAME_PLACE_BY_NAME = ("dependentSchemas", "dependencies")


class BadSchema(Exception):
    """A schema that cannot be used; one line."""

    def __init__(self, problem: str, remedy: str = "give a JSON schema"):
        super().__init__(" ".join(problem.split())[:300])
        self.remedy = remedy


class TooMuch(Exception):
    """A validation that was given up."""


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises `BadSchema` where arguments could not be validated against it."""
    if depth_of(schema) > MAX_DEPTH:
        raise BadSchema(f"it is nested deeper than {MAX_DEPTH} levels", "make it flatter")
    _check_keys(schema)
    try:
        form = _form_of(schema)
        _check_form(form, schema)
        _References(form, schema).check()
    except BadSchema:
        raise
    except Exception as error:  # it is anybody's, and the library raises what it likes
        raise BadSchema(f"it cannot be checked ({type(error).__name__}: {error})") from None


def depth_of(value: Any) -> int:
    """How deep lists and objects stand in each other, up to just beyond `MAX_DEPTH`."""
    depth, level = 0, {id(value): value}  # what is shared counts once
    while depth <= MAX_DEPTH and (level := {i: v for i, v in level.items() if _is_nest(v)}):
        level = {id(inner): inner for outer in level.values() for inner in _inside(outer)}
        depth += 1
    return depth


class BoundedValidator:
    """A schema made ready for use. It need not have passed `check_schema`."""

    def __init__(self, schema: Mapping[str, Any]):
        # Without `$schema` inside, for jsonschema leaves our form of the dialect at one.
        self._validator = _bounded(_form_of(schema))(_without_dialect(schema), registry=Registry())

    def first_error(self, value: Mapping[str, Any]) -> ValidationError | None:
        """Raises `TooMuch`, or what the library raises at a schema that it cannot use."""
        _steps.left = MAX_STEPS
        return next(self._validator.iter_errors(value), None)


def _check_keys(value: Any) -> None:
    for key in value if isinstance(value, Mapping) else ():
        if not isinstance(key, str):
            raise BadSchema(f"the key {key!r} is no text", "quote it")
    for inner in _inside(value):
        _check_keys(inner)


def _is_nest(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)


def _inside(value: Any) -> Iterator[Any]:
    if _is_nest(value):
        yield from value.values() if isinstance(value, Mapping) else value


def _id_of(meta_schema: Mapping[str, Any]) -> str:
    return str(meta_schema.get("$id") or meta_schema.get("id")).rstrip("#")


_NEWEST = _id_of(Draft202012Validator.META_SCHEMA)
_FORMS: Mapping[str, type[Validator]] = {
    _id_of(form.META_SCHEMA): form
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
    """jsonschema's class for the dialect that the schema states."""
    stated = schema.get("$schema", _NEWEST)
    form = _FORMS.get(stated.rstrip("#")) if isinstance(stated, str) else None
    if form is None:
        remedy = f"leave it out, or write {_NEWEST}"
        raise BadSchema(f"$schema {stated} is no known dialect of JSON Schema", remedy)
    return form


def _check_form(form: type[Validator], schema: Any) -> None:
    try:
        form.check_schema(schema)
    except SchemaError as error:
        raise BadSchema(" ".join(error.message.splitlines()[:1])) from None


class _References:
    """Follows every reference of a schema, and looks for those that lead nowhere or in a circle."""

    def __init__(self, form: type[Validator], schema: Mapping[str, Any]):
        self._form, self._schema = form, schema
        self._dialect = dialects.specification_with(_id_of(form.META_SCHEMA))
        self._keywords = [
            keyword
            for keyword in ("$ref", "$dynamicRef", "$recursiveRef")
            if keyword in form.VALIDATORS
        ]
        self._same_place: dict[int, list[tuple[Any, str]]] = {}  # schemas of the same instance
        self._checked: set[int] = set()  # targets that the check of the form has not seen

    def check(self) -> None:
        registry = SPECIFICATIONS.combine(Registry())
        resource = self._dialect.create_resource(self._schema)
        found = [(resource, registry.resolver_with_root(resource))]
        while found:
            resource, resolver = found.pop()
            contents = resource.contents
            if id(contents) in self._same_place or not isinstance(contents, Mapping):
                continue
            edges = self._same_place[id(contents)] = [(one, "") for one in _same_place(contents)]
            self._check_dialect(contents)
            for keyword in self._keywords:
                if keyword in contents:
                    target, where = self._target(keyword, contents[keyword], resolver)
                    edges.append((target, f"{keyword} {contents[keyword]}"))
                    found.append((self._dialect.create_resource(target), where))
            for inner in resource.subresources():
                found.append((inner, resolver.in_subresource(inner)))
        self._check_circles()

    def _target(self, keyword: str, reference: str, resolver: Any) -> tuple[Any, Any]:
        try:
            if keyword == "$recursiveRef":
                resolved = dialects.lookup_recursive_ref(resolver)
            else:
                resolved = resolver.lookup(reference)
        except Exception as error:  # a malformed one raises more than the library names
            raise _unresolved(keyword, reference, error) from None
        target = resolved.contents
        if id(target) not in self._checked and not isinstance(target, bool):
            self._checked.add(id(target))
            if not isinstance(target, Mapping):
                raise BadSchema(f"{keyword} {reference} names no schema", "correct it")
            _check_form(self._form, target)
        return target, resolved.resolver

    def _check_dialect(self, contents: Mapping[str, Any]) -> None:
        stated = contents.get("$schema")
        if isinstance(stated, str) and stated.rstrip("#") != _id_of(self._form.META_SCHEMA):
            problem = f"$schema {stated} stands inside a schema of another dialect"
            raise BadSchema(problem, "leave it out")

    def _check_circles(self) -> None:
        """Where a schema is its own, by way of others of the same instance, validation never ends.

        By depth first, without recursion: a chain may be long.
        """
        done: set[int] = set()
        for start in self._same_place:
            path, on_path = [(start, "", iter(self._same_place[start]))], {start}
            while path:
                at, _, edges = path[-1]
                edge = next(edges, None)
                if edge is None:
                    path.pop()
                    on_path.discard(at)
                    done.add(at)
                    continue
                target, reference = edge
                if id(target) in on_path:
                    names = [name for _, name, _ in [*path, (at, reference, edges)] if name]
                    remedy = "let it pass a property or an item on its way"
                    raise BadSchema(f"{names[-1] if names else 'it'} leads back to itself", remedy)
                if id(target) not in done and id(target) in self._same_place:
                    path.append((id(target), reference, iter(self._same_place[id(target)])))
                    on_path.add(id(target))


def _unresolved(keyword: str, reference: Any, error: Exception) -> BadSchema:
    inside = str(reference).startswith("#") or not isinstance(error, Unresolvable)
    what = "names nothing in the schema" if inside else "points outside the schema"
    remedy = "put what it names under $defs, and write #/$defs/NAME"
    return BadSchema(f"{keyword} {reference} {what}", remedy)


def _same_place(schema: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas in it that are about the same instance."""
    for key in _SAME_PLACE:
        inner = schema.get(key)
        yield from inner if isinstance(inner, list) else [inner]
    for key in _SAME_PLACE_BY_NAME:
        inner = schema.get(key)
        yield from inner.values() if isinstance(inner, Mapping) else ()


def _without_dialect(schema: Any) -> Any:
    if isinstance(schema, Mapping):
        return {
            key: inner if key in _LITERALS else _without_dialect(inner)
            for key, inner in schema.items()
            if key != "$schema" or not isinstance(inner, str)
        }
    return [_without_dialect(inner) for inner in schema] if isinstance(schema, list) else schema


class _Steps(threading.local):
    left = 0


_steps = _Steps()
Keyword = Callable[[Any, Any, Any, Any], Any]


@cache
def _bounded(form: type[Validator]) -> type[Validator]:
    """The dialect with a bound on the keywords of one validation."""
    own = {"pattern": _pattern, "patternProperties": _pattern_properties}
    keywords = {**form.VALIDATORS, **{k: own[k] for k in own if k in form.VALIDATORS}}
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
    """Whether equal items are found by sorting; else each is compared with each."""
    kinds = {type(item) for item in instance} if isinstance(instance, list) else set()
    return kinds.isdisjoint({dict, list}) and len(kinds) < 2


def _spend(steps: int) -> None:
    _steps.left -= steps
    if _steps.left < 0:
        raise TooMuch(f"it takes more than {MAX_STEPS} steps")


def _matches(pattern: str, text: str) -> bool:
    try:
        return regex.search(pattern, text, timeout=PATTERN_S) is not None
    except TimeoutError:
        raise TooMuch(f"the pattern {pattern} takes more than {PATTERN_S:g} s") from None


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
