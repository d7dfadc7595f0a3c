"""Arguments that a schema names in branches or behind a reference at its root."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.core.faults import Fault
from orchestra_ray.data.catalogue.arguments import named_arguments, prompt_schema
from orchestra_ray.data.catalogue.schemas import BadSchema, BoundedValidator, check_schema
from orchestra_ray.workers.tools.validation import check_arguments

TEXT, NUMBER = {"type": "string"}, {"type": "number"}
CITY = {"properties": {"city": TEXT}, "required": ["city"]}
POINT = {"properties": {"lat": NUMBER, "lon": NUMBER}, "required": ["lat", "lon"]}
CLOSED = {"additionalProperties": False}
CIRCLE = {
    "type": "object",
    "properties": {"kind": {"const": "circle"}, "r": NUMBER},
    "required": ["kind", "r"],
}
SQUARE = {
    "type": "object",
    "properties": {"kind": {"const": "square"}, "a": NUMBER},
    "required": ["kind", "a"],
}
ROOT = {"type": "object", "properties": {}}
ZOD = {"$schema": "http://json-schema.org/draft-07/schema#"}
# A schema, calls that fit, calls that do not.
SHAPES: dict[str, tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]] = {
    "any of": (
        {**ROOT, "anyOf": [CITY, POINT]},
        [{"city": "Ulm"}, {"lat": 1, "lon": 2}, {"city": "Ulm", "lat": 1}],
        [{}, {"city": 5}, {"lat": 1}, {"town": "Ulm"}],
    ),
    "one of, told apart by a constant": (
        {**ROOT, "oneOf": [CIRCLE | CLOSED, SQUARE | CLOSED]},
        [{"kind": "circle", "r": 1}, {"kind": "square", "a": 2}],
        [
            {"kind": "circle", "a": 1},
            {"kind": "cube", "a": 1},
            {},
            {"kind": "circle", "r": 1, "x": 1},
        ],
    ),
    "one of references": (
        {
            **ROOT,
            "oneOf": [{"$ref": "#/$defs/C"}, {"$ref": "#/$defs/S"}],
            "discriminator": {"propertyName": "kind"},
            "$defs": {"C": CIRCLE, "S": SQUARE},
        },
        [{"kind": "circle", "r": 1}, {"kind": "square", "a": 2}],
        [{"kind": "circle", "a": 1}, {}],
    ),
    "all of": (
        {**ROOT, "allOf": [CITY, {"properties": {"days": {"type": "integer"}}}]},
        [{"city": "Ulm"}, {"city": "Ulm", "days": 2}],
        [{"days": 2}, {"city": "Ulm", "days": "2"}],
    ),
    "all of with nothing beside": (
        {**ROOT, "allOf": [CITY, {"$ref": "#/$defs/P"}], "unevaluatedProperties": False}
        | {"$defs": {"P": POINT}},
        [{"city": "Ulm", "lat": 1, "lon": 2}],
        [{"city": "Ulm", "lat": 1, "lon": 2, "x": 3}, {"city": "Ulm"}],
    ),
    "reference": (
        {"$ref": "#/$defs/In", "$defs": {"In": {"type": "object", **POINT, **CLOSED}}},
        [{"lat": 1, "lon": 2}],
        [{"lat": 1}, {"lat": 1, "lon": 2, "x": 3}, {}],
    ),
    "reference of draft 7, as zod writes it": (
        {**ZOD, **ROOT, "$ref": "#/definitions/In"}
        | {"definitions": {"In": {"type": "object", **CITY, **CLOSED}}},
        [{"city": "Ulm"}],
        [{"city": 5}, {"town": "Ulm"}, {}],
    ),
    "reference to a reference to a union": (
        {
            "$ref": "#/$defs/A",
            "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"anyOf": [CITY, POINT]}},
        },
        [{"city": "Ulm"}, {"lat": 1, "lon": 2}],
        [{}, {"lat": 1}],
    ),
    "reference beside properties": (
        {"$ref": "#/$defs/In", "properties": {"days": NUMBER}, "$defs": {"In": CITY}},
        [{"city": "Ulm", "days": 1}],
        [{"days": 1}, {"city": "Ulm", "days": "1"}],
    ),
    "at least one of two": (
        {"properties": {"a": TEXT, "b": TEXT}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        [{"a": "x"}, {"a": "x", "b": "y"}],
        [{}, {"a": 1}, {"a": "x", "c": "y"}],
    ),
    "if one then the other": (
        {
            "properties": {"a": TEXT, "b": TEXT},
            "if": {"required": ["a"]},
            "then": {"required": ["b"]},
        },
        [{}, {"b": "x"}, {"a": "x", "b": "y"}],
        [{"a": "x"}, {"c": "x"}],
    ),
    "a property that comes with another": (
        {"properties": {"a": TEXT}, "dependentSchemas": {"a": {"properties": {"b": NUMBER}}}},
        [{"a": "x"}, {"a": "x", "b": 1}],
        [{"a": "x", "b": "y"}],
    ),
    "any further": (
        {"properties": {"a": TEXT}, "additionalProperties": True},
        [{"a": "x", "b": 1}],
        [{"a": 1}],
    ),
    "any further, as an empty schema": (
        {"properties": {"a": TEXT}, "additionalProperties": {}},
        [{"a": "x", "b": 1}],
        [{"a": 1}],
    ),
    "further of one type": (
        {"properties": {"a": TEXT}, "additionalProperties": NUMBER},
        [{"a": "x", "b": 1}],
        [{"a": "x", "b": "y"}],
    ),
    "none further": ({"properties": {"a": TEXT}, **CLOSED}, [{"a": "x"}], [{"a": "x", "b": 1}]),
    "nothing said of further ones": ({"properties": {"a": TEXT}}, [{"a": "x"}], [{"b": 1}]),
    "unevaluated ones": (
        {"properties": {"a": TEXT}, "unevaluatedProperties": NUMBER},
        [{"a": "x", "b": 1}],
        [{"b": "y"}],
    ),
    "patterns": (
        {"properties": {"a": TEXT}, "patternProperties": {"^x_": NUMBER}, **CLOSED},
        [{"a": "x", "x_1": 1}],
        [{"x_1": "y"}, {"b": 1}],
    ),
    "patterns alone": ({"patternProperties": {"^x_": NUMBER}}, [{"x_1": 1}], [{"x_1": "y"}]),
    "nested unions": (
        {"anyOf": [{"allOf": [CITY, {"properties": {"zip": TEXT}}]}, {"oneOf": [POINT]}]},
        [{"city": "Ulm", "zip": "89073"}, {"lat": 1, "lon": 2}],
        [{"zip": "89073"}],
    ),
    "a list of types": ({"type": ["object", "null"], **CITY}, [{"city": "Ulm"}], [{"town": "x"}]),
    "itself, further in": (
        {"properties": {"left": {"$ref": "#"}, "name": TEXT}, "required": ["name"]},
        [{"name": "a", "left": {"name": "b"}}],
        [{"name": "a", "left": {}}],
    ),
}
CALLS = [(name, call, True) for name, (_, good, _) in SHAPES.items() for call in good]
CALLS += [(name, call, False) for name, (_, _, bad) in SHAPES.items() for call in bad]


@pytest.mark.parametrize(("name", "call", "fits"), CALLS)
def test_a_call_is_judged_by_the_schema(name: str, call: dict[str, Any], fits: bool) -> None:
    schema = SHAPES[name][0]
    check_schema(schema)
    try:
        check_arguments(schema, call)
    except Fault as fault:
        assert not fits, str(fault)
        assert fault.kind.is_invalid_call and len(str(fault)) <= 400 and "\n" not in str(fault)
    else:
        assert fits


@pytest.mark.parametrize("name", SHAPES)
def test_a_prompt_shows_every_argument_and_forbids_no_call_that_fits(name: str) -> None:
    schema, good, _ = SHAPES[name]
    for whole in (schema, {**ROOT, **schema}):
        as_shown = prompt_schema(whole)
        check_schema(as_shown)
        for call in good:
            assert BoundedValidator(as_shown).first_error(call) is None
            if "additional" not in str(schema) and not {"patternProperties"} & schema.keys():
                known = {"b"} if "dependentSchemas" in schema else set()
                known |= {"b"} if "unevaluatedProperties" in schema else set()
                assert call.keys() - known <= as_shown["properties"].keys()


def test_what_a_prompt_shows_of_a_union_is_short() -> None:
    assert prompt_schema({**ROOT, "anyOf": [CITY, POINT]}) == {
        "type": "object",
        "properties": {"city": TEXT, "lat": NUMBER, "lon": NUMBER},
        "anyOf": [{"required": ["city"]}, {"required": ["lat", "lon"]}],
    }
    assert prompt_schema(SHAPES["reference"][0]) == {"type": "object", **POINT, **CLOSED}
    assert prompt_schema(SHAPES["all of"][0]) == {
        "type": "object",
        "properties": {"city": TEXT, "days": {"type": "integer"}},
        "required": ["city"],
    }
    told_apart = prompt_schema({**ROOT, "oneOf": [CIRCLE, SQUARE]})
    assert told_apart["properties"]["kind"] == {"anyOf": [{"const": "circle"}, {"const": "square"}]}
    assert told_apart["required"] == ["kind"]
    assert told_apart["oneOf"][0]["properties"] == {"kind": {"const": "circle"}}


def test_a_schema_with_its_arguments_at_its_root_is_shown_as_it_is() -> None:
    for name in ("none further", "nothing said of further ones", "patterns", "itself, further in"):
        schema = SHAPES[name][0]
        assert prompt_schema(schema) is schema


def test_the_fault_of_a_union_says_what_each_form_lacks() -> None:
    with pytest.raises(Fault, match="2 forms: 'city' is a required property; or 'lat' is a req"):
        check_arguments({"anyOf": [CITY, POINT]}, {})
    with pytest.raises(Fault, match="argument city must be of type string; or"):
        check_arguments({"anyOf": [CITY, POINT]}, {"city": 5})


NAMES = st.sampled_from(["a", "b", "c"])
INNER = st.sampled_from([TEXT, NUMBER, {"type": "integer"}, {"const": 1}, {}])
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "properties": st.dictionaries(NAMES, INNER, max_size=2),
    "required": st.lists(NAMES, max_size=2, unique=True),
    "$ref": st.sampled_from(["#/$defs/x", "#/$defs/y", "#x"]),
    "additionalProperties": st.booleans() | INNER,
}
BRANCHES = st.recursive(
    st.fixed_dictionaries({}, optional=PLAIN),
    lambda inner: st.fixed_dictionaries(
        {},
        optional=PLAIN
        | {key: st.lists(inner, min_size=1, max_size=2) for key in ("anyOf", "oneOf")}
        | {"allOf": st.lists(inner | st.booleans(), min_size=1, max_size=2)},
    ),
    max_leaves=6,
)
DEFINITIONS = st.fixed_dictionaries({"x": BRANCHES, "y": BRANCHES})


def named(schema: Any, definitions: dict[str, Any], depth: int = 8) -> set[str]:
    """All names of properties that can be reached in it without going further into an argument."""
    if not isinstance(schema, dict) or depth == 0:
        return set()
    found = set(schema.get("properties", {}))
    if schema.get("$ref", "").startswith("#/$defs/"):
        found |= named(definitions[schema["$ref"][-1]], definitions, depth - 1)
    for key in ("allOf", "anyOf", "oneOf"):
        if True not in (branches := schema.get(key, [])) and False not in branches:
            for branch in branches:
                found |= named(branch, definitions, depth - 1)
    return found


@settings(max_examples=40)
@given(BRANCHES, DEFINITIONS)
def test_whatever_a_schema_names_is_shown(
    schema: dict[str, Any], definitions: dict[str, Any]
) -> None:
    whole = {**ROOT, **schema, "$defs": definitions}
    try:
        check_schema(whole)
    except BadSchema:
        return
    as_shown = prompt_schema(whole)
    check_schema(as_shown)
    assert as_shown["properties"].keys() == named(whole, definitions)
    if (allowed := named_arguments(whole)) is not None:
        assert allowed == set(whole["properties"])


@settings(max_examples=40)
@given(BRANCHES, DEFINITIONS, st.dictionaries(NAMES, st.sampled_from(["t", 1, 1.5]), max_size=3))
def test_where_only_the_schema_tells_a_call_is_right_if_it_fits(
    schema: dict[str, Any], definitions: dict[str, Any], call: dict[str, Any]
) -> None:
    whole = {**ROOT, **schema, "$defs": definitions}
    try:
        check_schema(whole)
    except BadSchema:
        return
    fits = BoundedValidator(whole).first_error(call) is None
    if named_arguments(whole) is None or call.keys() <= whole["properties"].keys():
        try:
            check_arguments(whole, call)
        except Fault:
            assert not fits
        else:
            assert fits
