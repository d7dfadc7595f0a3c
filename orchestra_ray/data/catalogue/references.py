"""Checks that the references of a JSON schema resolve within the schema itself.

A reference resolves to a pointer, an anchor or an `$id` inside the schema, or to the published
text of a dialect. None is ever fetched. A chain of references that returns to its start without
passing a property or an item is rejected, because validation would not terminate.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import regex
from attrs import evolve
from jsonschema import Draft202012Validator, FormatChecker, SchemaError
from jsonschema.protocols import Validator
from jsonschema_specifications import REGISTRY as SPECIFICATIONS
from referencing import Registry, Specification
from referencing import jsonschema as dialects
from referencing.exceptions import Unresolvable

from orchestra_ray.core.errors import first_line

# Keywords whose subschemas apply to the same instance as the enclosing schema.
_SAME_PLACE = ("not", "allOf", "anyOf", "oneOf", "extends", "disallow", "type")
_CONDITION = ("if", "then", "else")
_SAME_PLACE_BY_NAME = ("dependentSchemas", "dependencies")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


class BadSchema(Exception):
    """Raised for an unusable schema, with a one-line problem and a remedy."""

    def __init__(self, problem: str, remedy: str = "give a JSON schema"):
        super().__init__(" ".join(problem.split())[:300])
        self.remedy = remedy


def id_of(meta_schema: Mapping[str, Any]) -> str:
    return str(meta_schema.get("$id") or meta_schema.get("id")).rstrip("#")


def dialect_of(stated: str) -> str:
    """Returns the canonical URI of a dialect, which may be written with https or a final `#`."""
    uri = re.sub("^https:", "http:", stated.rstrip("#"))
    return dialect_of(id_of(Draft202012Validator.META_SCHEMA)) if uri == _LATEST else uri


_LATEST = "http://json-schema.org/schema"
_FORMATS = FormatChecker(formats=())


@_FORMATS.checks("regex", raises=Exception)
def _is_pattern(value: object) -> bool:
    """Checks with `regex`, as validation does; the library uses `re`, which accepts less."""
    return not isinstance(value, str) or regex.compile(value) is not None


def check_form(form: type[Validator], schema: Any) -> None:
    """Raises `BadSchema` if the schema violates the meta-schema of its dialect."""
    own: Any = form  # the protocol lacks the argument `format_checker`
    try:
        own.check_schema(schema, format_checker=_FORMATS)
    except SchemaError as error:
        raise BadSchema(first_line(error)) from None


@cache
def specification_of(form: type[Validator]) -> Specification[Any]:
    """Returns how to find the subschemas of a JSON schema, for the dialect that `form` validates.

    The `referencing` library's own specification misses schemas in `extends`, `disallow`, `type`
    and `dependencies`.
    """
    known = dialects.specification_with(id_of(form.META_SCHEMA))

    def subresources_of(contents: Any) -> Iterator[Any]:
        if isinstance(contents, Mapping):
            found = [*known.subresources_of(contents), *same_place_in(contents, form)]
            yield from {id(inner): inner for inner in found if _is_schema(inner)}.values()

    return evolve(known, subresources_of=subresources_of)


def resolver_of(form: type[Validator], schema: Mapping[str, Any]) -> Any:
    """Returns a resolver limited to the schema itself and the texts of the dialects."""
    resource = specification_of(form).create_resource(schema)
    return SPECIFICATIONS.combine(Registry()).resolver_with_root(resource)


def check_references(form: type[Validator], schema: Mapping[str, Any]) -> None:
    """Raises `BadSchema` at a reference that does not resolve, or that is circular."""
    _References(form, schema).check()


class _References:
    """Follows all references of a schema."""

    def __init__(self, form: type[Validator], schema: Mapping[str, Any]):
        self._form, self._schema = form, schema
        self._specification = specification_of(form)
        self._keywords = [keyword for keyword in _REFERENCES if keyword in form.VALIDATORS]
        self._same_place: dict[
            int, list[tuple[Any, str]]
        ] = {}  # by id: schemas that apply to the same instance
        self._checked: set[int] = set()  # ids of targets already checked against the meta-schema

    def check(self) -> None:
        resolver = resolver_of(self._form, self._schema)
        found = [(self._specification.create_resource(self._schema), resolver)]
        while found:
            resource, resolver = found.pop()
            contents = resource.contents
            if id(contents) in self._same_place or not isinstance(contents, Mapping):
                continue
            same_place = same_place_in(contents, self._form)
            edges = self._same_place[id(contents)] = [(one, "") for one in same_place]
            self._check_dialect(contents)
            for keyword in self._keywords:
                if keyword in contents:
                    target, where = self._target(keyword, contents[keyword], resolver)
                    edges.append((target, f"{keyword} {contents[keyword]}"))
                    found.append((self._specification.create_resource(target), where))
            for inner in resource.subresources():
                found.append((inner, resolver.in_subresource(inner)))
        self._check_circles()

    def _target(self, keyword: str, reference: str, resolver: Any) -> tuple[Any, Any]:
        try:
            if keyword == "$recursiveRef":
                resolved = dialects.lookup_recursive_ref(resolver)
            else:
                resolved = resolver.lookup(reference)
        except Exception as error:  # malformed references raise undocumented errors
            raise _unresolved(keyword, reference, error) from None
        target = resolved.contents
        if id(target) not in self._checked and not isinstance(target, bool):
            self._checked.add(id(target))
            if not isinstance(target, Mapping):
                raise BadSchema(f"{keyword} {reference} names no schema", "correct it")
            check_form(self._form, target)
        return target, resolved.resolver

    def _check_dialect(self, contents: Mapping[str, Any]) -> None:
        stated = contents.get("$schema")
        own = dialect_of(id_of(self._form.META_SCHEMA))
        if isinstance(stated, str) and dialect_of(stated) != own:
            problem = f"$schema {stated} is nested in a schema of another dialect"
            raise BadSchema(problem, "leave it out")

    def _check_circles(self) -> None:
        """Searches depth first, without recursion, because a chain may be long."""
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


def same_place_in(schema: Mapping[str, Any], form: type[Validator]) -> Iterator[Any]:
    """Yields the subschemas that apply to the same instance, by the keywords of the dialect."""
    for key in (*_SAME_PLACE, *_CONDITION):
        inner = schema.get(key) if _is_keyword(key, form) else None
        yield from filter(_is_schema, inner if isinstance(inner, list) else [inner])
    for key in _SAME_PLACE_BY_NAME:
        inner = schema.get(key) if _is_keyword(key, form) else None
        yield from filter(_is_schema, inner.values() if isinstance(inner, Mapping) else ())


def _is_keyword(key: str, form: type[Validator]) -> bool:
    return ("if" if key in _CONDITION else key) in form.VALIDATORS


def _is_schema(value: Any) -> bool:
    return isinstance(value, Mapping | bool)
