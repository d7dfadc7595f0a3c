"""Mistakes in a schema are reported before any call, and nothing is ever fetched."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.data.catalogue.references import BadSchema
from orchestra_ray.data.catalogue.schemas import MAX_DEPTH, BoundedValidator, check_schema, depth_of
from orchestra_ray.workers.tools.validation import check_arguments

OBJECT = {"type": "object"}
DRAFT7 = {"$schema": "http://json-schema.org/draft-07/schema#"}
DRAFT3 = {"$schema": "http://json-schema.org/draft-03/schema#"}
DRAFT2019 = {"$schema": "https://json-schema.org/draft/2019-09/schema"}
TEXT = {"type": "string"}


def with_a(inner: Any, **more: Any) -> dict[str, Any]:
    return {**OBJECT, "properties": {"a": inner}, **more}


@pytest.fixture
def silent_server() -> Iterator[tuple[str, list[bytes]]]:
    """Accepts connections, keeps what they send, and never answers."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def listen() -> None:
            kept = []
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                kept.append(connection)
                heard.append(b"connected")

        threading.Thread(target=listen, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", heard
        server.shutdown(socket.SHUT_RDWR)


def test_a_remote_reference_is_never_fetched_neither_at_the_check_nor_at_a_call(
    silent_server: tuple[str, list[bytes]],
) -> None:
    url, heard = silent_server
    schemas = [
        with_a({"$ref": f"{url}/schema.json"}),
        with_a({"$ref": f"{url}/schema.json#/$defs/x"}),
        with_a({"$ref": "other.json"}, **{"$id": f"{url}/this.json"}),
        with_a({"$dynamicRef": f"{url}/schema.json#x"}),
        with_a({"$ref": f"{url}/s"}, **DRAFT7),
        {**DRAFT7, "$ref": f"{url}/schema.json", "definitions": {"x": TEXT}},
        with_a({"$schema": f"{url}/dialect", **TEXT}),
        with_a({"extends": {"$ref": f"{url}/s"}}, **DRAFT3),
        with_a({"extends": [{"$ref": f"{url}/s"}]}, **DRAFT3),
        with_a({"disallow": ["null", {"$ref": f"{url}/s"}]}, **DRAFT3),
        with_a({"type": ["null", {"$ref": f"{url}/s"}]}, **DRAFT3),
        with_a({"dependencies": {"b": "c", "a": {"$ref": f"{url}/s"}}}, **DRAFT3),
        with_a({"dependencies": {"b": ["c"], "a": {"$ref": f"{url}/s"}}}, **DRAFT7),
        {**OBJECT, "$schema": f"{url}/dialect"},
    ]
    started_s = time.monotonic()
    for schema in schemas:
        with pytest.raises(BadSchema):
            check_schema(schema)
        try:
            check_arguments(schema, {"a": "text"})
        except Fault:
            pass
    assert time.monotonic() - started_s < 5 and heard == []


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (with_a({"$ref": "http://h/x.json"}), r"\$ref http://h/x.json points outside the schema"),
        (with_a({"$ref": "file:///etc/passwd"}), "points outside"),
        (with_a({"$ref": "urn:x"}), "points outside"),
        (with_a({"$ref": "b.json"}, **{"$id": "http://h/a.json"}), r"\$ref b.json points outside"),
        (with_a({"$ref": "http://[h"}), r"\$ref http://\[h points outside"),
        (with_a({"$ref": "#/$defs/x"}), r"\$ref #/\$defs/x names nothing in the schema"),
        (with_a({"$ref": "#x"}), "#x names nothing"),
        (with_a({"$dynamicRef": "#x"}), r"\$dynamicRef #x names nothing"),
        (with_a({"$ref": "#/x/y"}, x=[1]), "#/x/y names nothing"),
        (with_a({"$ref": "#/x"}, x="text"), "#/x names no schema"),
        (with_a({"$ref": "#/x"}, x={"type": 5}), "5 is not valid"),
        (with_a({"$ref": "#/definitions/x"}, **DRAFT7), "#/definitions/x names nothing"),
        (with_a(TEXT, **{"$defs": {"unused": {"$ref": "#/x"}}}), "#/x names nothing"),
        (with_a({"extends": {"$ref": "http://h/x"}}, **DRAFT3), "http://h/x points outside"),
        (with_a({"extends": [{"extends": {"$ref": "#/x"}}]}, **DRAFT3), "#/x names nothing"),
        (with_a({"disallow": [{"$ref": "http://h/x"}]}, **DRAFT3), "http://h/x points outside"),
        (with_a({"type": [{"$ref": "http://h/x"}]}, **DRAFT3), "http://h/x points outside"),
        (with_a({"items": {"type": [{"$ref": "#/x"}]}}, **DRAFT3), "#/x names nothing"),
        ({"disallow": [{"$ref": "#"}], **DRAFT3}, r"\$ref # leads back to itself"),
        ({**OBJECT, "$ref": "#"}, r"\$ref # leads back to itself"),
        (
            with_a(
                {"$ref": "#/$defs/a"},
                **{"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
            ),
            r"\$ref #/\$defs/[ab] leads back to itself",
        ),
        (
            with_a(
                {"$ref": "#/$defs/a"},
                **{"$defs": {"a": {"anyOf": [{"type": "null"}, {"not": {"$ref": "#/$defs/a"}}]}}},
            ),
            "leads back to itself",
        ),
        ({**OBJECT, "if": {"required": ["a"]}, "then": {"$ref": "#"}}, "leads back to itself"),
        ({**OBJECT, "dependentSchemas": {"a": {"$ref": "#"}}}, "leads back to itself"),
        ({**OBJECT, "$schema": "http://example.org/mine"}, "not a known dialect"),
        ({**OBJECT, "$schema": 5}, "not a known dialect"),
        ({**OBJECT, "$schema": "json-schema.org/draft-07/schema"}, "not a known dialect"),
        ({**OBJECT, "$schema": "ftp://json-schema.org/draft-07/schema"}, "not a known dialect"),
        (with_a({"$schema": DRAFT7["$schema"]}), "another dialect"),
        (with_a({"$schema": "http://json-schema.org/schema#"}, **DRAFT7), "another dialect"),
        ({"type": "objects"}, "not valid under any"),
        *((with_a({"pattern": one}), r"is not a 'regex'") for one in ("[", "(a", r"\cA", "(?<y>")),
        (with_a({}, patternProperties={"^[": {}}), r"is not a 'regex'"),
        (with_a({"pattern": "a{99999999999}"}, **DRAFT3), r"is not a 'regex'"),
        (with_a({"$ref": "#/x"}, x={"pattern": "["}), r"is not a 'regex'"),
        ({"properties": {1: {}}}, "the key 1 is not text"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(BadSchema, match=says) as caught:
        check_schema(schema)
    assert "\n" not in str(caught.value) and caught.value.remedy


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (with_a({"$ref": "#/$defs/x"}, **{"$defs": {"x": TEXT}}), {"a": "t"}, {"a": 1}),
        (
            with_a({"$ref": "#x"}, **{"$defs": {"x": {"$anchor": "x", **TEXT}}}),
            {"a": "t"},
            {"a": 1},
        ),
        (
            with_a({"$ref": "http://h/x"}, **{"$defs": {"x": {"$id": "http://h/x", **TEXT}}}),
            {"a": "t"},
            {"a": 1},
        ),
        (
            with_a({"$ref": "b"}, **{"$id": "http://h/a", "$defs": {"x": {"$id": "b", **TEXT}}}),
            {"a": "t"},
            {"a": 1},
        ),
        (
            with_a({"$ref": "#/definitions/x"}, definitions={"x": TEXT}, **DRAFT7),
            {"a": "t"},
            {"a": 1},
        ),
        (  # beside a reference a draft 7 ignores what stands there, and the newest does not
            with_a({"$ref": "#/definitions/x", "maxLength": 1}, definitions={"x": TEXT}, **DRAFT7),
            {"a": "text"},
            {"a": 1},
        ),
        (
            with_a({"$ref": "#/$defs/x", "maxLength": 1}, **{"$defs": {"x": TEXT}}),
            {"a": "t"},
            {"a": "text"},
        ),
        (
            with_a({"items": [TEXT, {"type": "integer"}]}, **DRAFT7),
            {"a": ["t", 1]},
            {"a": [1, "t"]},
        ),
        (with_a({"$ref": "#"}), {"a": {"a": {}}}, {"a": {"a": 1}}),
        (with_a({"$recursiveRef": "#"}, **DRAFT2019), {"a": {"a": {}}}, {"a": {"a": 1}}),
        (
            with_a({"$dynamicRef": "#n"}, **{"$dynamicAnchor": "n"}),
            {"a": {"a": {}}},
            {"a": {"a": 1}},
        ),
        (
            with_a({"$ref": "https://json-schema.org/draft/2020-12/schema"}),
            {"a": {"type": "string"}},
            {"a": {"type": 5}},
        ),
        (
            {
                **DRAFT7,
                "$ref": "#/definitions/x",
                "definitions": {"x": {**with_a(TEXT), "additionalProperties": False}},
            },
            {"a": "t"},
            {"b": "t"},
        ),
        (
            with_a({"extends": {"$ref": "#/definitions/x"}}, definitions={"x": TEXT}, **DRAFT3),
            {"a": "t"},
            {"a": 1},
        ),
        (
            with_a({"type": ["null", {"$ref": "#/definitions/x"}]}, definitions={"x": TEXT})
            | DRAFT3,
            {"a": "t"},
            {"a": 1},
        ),
        (
            with_a({"disallow": [{"$ref": "#/definitions/x"}]}, definitions={"x": TEXT}, **DRAFT3),
            {"a": 1},
            {"a": "t"},
        ),
        (  # a keyword of another dialect is none
            with_a({"extends": {"$ref": "http://h/x"}, "disallow": ["string"], **TEXT}),
            {"a": "t"},
            {"a": 1},
        ),
        # patterns that `re` does not know
        (with_a({"pattern": r"^\p{L}+$"}), {"a": "Ünal"}, {"a": "Ünal5"}),
        (with_a({"pattern": r"^(?<y>\d+)$"}), {"a": "2026"}, {"a": "year"}),
        (with_a({"pattern": r"^[\w-.]+$"}, **DRAFT7), {"a": "a-b.c"}, {"a": "a b"}),
        (
            {"patternProperties": {r"^\p{Lu}": TEXT}, "additionalProperties": False, **DRAFT3},
            {"Ü": "t"},
            {"ü": "t"},
        ),
        (with_a({"enum": [{"$ref": "http://h/x"}]}), {"a": {"$ref": "http://h/x"}}, {"a": "t"}),
        (
            {**OBJECT, "properties": {"$ref": TEXT, "$schema": TEXT}},
            {"$ref": "t", "$schema": "t"},
            {"$ref": 5},
        ),
    ],
)
def test_what_a_schema_resolves_by_itself_is_used(
    schema: dict[str, Any], good: dict[str, Any], bad: dict[str, Any]
) -> None:
    check_schema(schema)
    check_arguments(schema, good)
    with pytest.raises(Fault) as caught:
        check_arguments(schema, bad)
    assert caught.value.kind is FaultKind.WRONG_TYPE


DYNAMIC = {"$dynamicRef": "#x", "$defs": {"x": {"$dynamicAnchor": "x", "not": TEXT}}}


@pytest.mark.parametrize(
    ("path", "schema"),
    [  # what its forerunner does not know, and what no text satisfies
        ("draft-03/schema", {"disallow": ["string"]}),
        ("draft-04/schema", {"not": TEXT}),
        ("draft-06/schema", {"const": 1}),
        ("draft-07/schema", {"if": TEXT, "then": False}),
        ("draft/2019-09/schema", {"$ref": "#x", "$defs": {"x": {"$anchor": "x", "not": TEXT}}}),
        ("draft/2020-12/schema", DYNAMIC),
        ("schema", DYNAMIC),
    ],
)
def test_a_dialect_is_known_by_http_and_https_with_and_without_a_mark(
    path: str, schema: dict[str, Any]
) -> None:
    for scheme, other in (("http", "https"), ("https", "http")):
        for mark in ("", "#"):
            inner = {**schema, "$schema": f"{other}://json-schema.org/{path}"}
            whole = {**with_a(inner), "$schema": f"{scheme}://json-schema.org/{path}{mark}"}
            check_schema(whole)
            assert BoundedValidator(whole).first_error({"a": "text"}) is not None
            assert BoundedValidator({**whole, "properties": {}}).first_error({"a": "t"}) is None


SLOW = {"patternProperties": {"^(a|a)*$": {}}}
SLOW_NAME = "a" * 40 + "!"
SLOW_KEY = {SLOW_NAME: 1}
DEFINED = {"$defs": {"x": SLOW}}


def doubled_by_name(count: int) -> dict[str, Any]:
    def twice(i: int) -> dict[str, Any]:
        return {"dependentSchemas": {name: {"$ref": f"#/$defs/n{i + 1}"} for name in "ab"}}

    return {f"n{i}": twice(i) for i in range(count)}


def test_a_validation_without_end_is_a_fault_of_the_call_and_soon() -> None:
    bomb = {f"n{i}": {"allOf": [{"$ref": f"#/$defs/n{i + 1}"}] * 2} for i in range(40)}
    nested = with_a({"allOf": [{"$ref": "#"}] * 2}, **{"$schema": DRAFT2019["$schema"]})
    deep: dict[str, Any] = {}
    for _ in range(MAX_DEPTH - 1):
        deep = {"a": deep}
    cases = [
        (with_a({"$ref": "#/$defs/n0"}, **{"$defs": {**bomb, "n40": {}}}), {"a": "t"}),
        (nested, deep),
        (with_a({"pattern": "^(a|a)*$"}), {"a": "a" * 60 + "!"}),
        ({**OBJECT, "patternProperties": {"^(a|a)*$": {}}}, {"a" * 60 + "!": 1}),
        (with_a({"uniqueItems": True}), {"a": [{"n": i} for i in range(4000)]}),
        ({**SLOW, "additionalProperties": False}, SLOW_KEY),
        ({**SLOW, "additionalProperties": TEXT}, SLOW_KEY),
        ({**SLOW, "additionalProperties": False, **DRAFT3}, SLOW_KEY),
        ({"unevaluatedProperties": False, **SLOW}, SLOW_KEY),
        ({"unevaluatedProperties": False, **SLOW, **DRAFT2019}, SLOW_KEY),
        ({"unevaluatedProperties": False, "allOf": [{"$ref": "#/$defs/x"}], **DEFINED}, SLOW_KEY),
        ({"unevaluatedProperties": False, "if": {"$ref": "#/$defs/x"}, **DEFINED}, SLOW_KEY),
        ({**SLOW, "additionalProperties": False}, {f"{'a' * 14}{i}!": 1 for i in range(1000)}),
        ({"propertyNames": {"pattern": "^(a|a)*$"}, "additionalProperties": True}, SLOW_KEY),
        (
            {"unevaluatedProperties": False, "$ref": "#/$defs/n0"}
            | {"$defs": {**doubled_by_name(40), "n40": {}}},
            {"a": 1, "b": 1},
        ),
    ]
    for schema, arguments in cases:
        check_schema(schema)
        started_s = time.monotonic()
        with pytest.raises(Fault) as caught:
            check_arguments(schema, arguments)
        assert caught.value.kind is FaultKind.BAD_INPUT
        assert time.monotonic() - started_s < 5
    check_arguments(with_a({"uniqueItems": True}), {"a": list(range(4000))})
    for keyword in ("additionalProperties", "unevaluatedProperties"):
        with pytest.raises(Fault):  # the matcher knows an end of this one
            check_arguments({"patternProperties": {"^(a+)+$": {}}, keyword: False}, SLOW_KEY)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 500, 100_000])
def test_a_schema_or_arguments_too_deep_are_refused(depth: int) -> None:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    with pytest.raises(BadSchema, match="nested deeper"):
        check_schema({**OBJECT, "default": value})
    with pytest.raises(Fault, match=f"nested deeper than {MAX_DEPTH} levels") as caught:
        check_arguments(with_a({}), {"a": value})
    assert caught.value.kind is FaultKind.BAD_INPUT
    assert depth_of(value) == MAX_DEPTH + 1


REFERENCES = st.sampled_from(
    ["#", "#/", "#/$defs/x", "#/$defs/y", "#/definitions/x", "#x", "#y", "x", "y.json", "#/a/0"]
    + ["http://127.0.0.1:1/x", "http://[", "file:///x", "urn:x", "", "%", "#%zz", "\x00", "//"]
) | st.text(max_size=8)
NAMES = st.sampled_from(["a", "x", "y", "$ref", "$schema", SLOW_NAME])
PATTERNS = st.sampled_from(["^(a+)+$", "^(a|a)*$", "(x+x+)+y", "^a", "", "$"])
DIALECTS = [one["$schema"] for one in (DRAFT3, DRAFT7, DRAFT2019)]
SCHEMAS = st.deferred(
    lambda: (
        st.booleans()
        | st.fixed_dictionaries(
            {},
            optional={
                "type": st.sampled_from(["object", "string", ["object", "null"]])
                | st.lists(SCHEMAS, min_size=1, max_size=2),
                "extends": SCHEMAS | st.lists(SCHEMAS, max_size=2),
                "disallow": st.lists(SCHEMAS, max_size=2),
                "dependencies": st.dictionaries(NAMES, SCHEMAS | NAMES, max_size=2),
                "$ref": REFERENCES,
                "$dynamicRef": REFERENCES,
                "$recursiveRef": REFERENCES,
                "$id": REFERENCES,
                "id": REFERENCES,
                "$anchor": st.sampled_from(["x", "y"]),
                "$dynamicAnchor": st.sampled_from(["x", "y"]),
                "$schema": st.sampled_from([*DIALECTS, "http://x"]),
                "properties": st.dictionaries(NAMES, SCHEMAS, max_size=2),
                "patternProperties": st.dictionaries(PATTERNS, SCHEMAS, max_size=2),
                "pattern": PATTERNS,
                "propertyNames": SCHEMAS,
                "$defs": st.dictionaries(NAMES, SCHEMAS, max_size=2),
                "definitions": st.dictionaries(NAMES, SCHEMAS, max_size=2),
                "anyOf": st.lists(SCHEMAS, min_size=1, max_size=2),
                "allOf": st.lists(SCHEMAS, min_size=1, max_size=2),
                "items": SCHEMAS | st.lists(SCHEMAS, max_size=2),
                "not": SCHEMAS,
                "additionalProperties": SCHEMAS,
                "unevaluatedProperties": SCHEMAS,
                "required": st.lists(NAMES, max_size=1) | st.booleans(),
                "enum": st.lists(st.integers(), max_size=2),
            },
        )
    )
)
ARGUMENTS = st.dictionaries(
    NAMES,
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
        max_leaves=5,
    ),
    max_size=2,
)


@given(SCHEMAS.filter(lambda schema: isinstance(schema, dict)), ARGUMENTS)
def test_no_schema_and_no_arguments_raise_anything_else(
    schema: dict[str, Any], arguments: dict[str, Any]
) -> None:
    started_s = time.monotonic()
    try:
        check_schema(schema)
        usable = True
    except BadSchema as error:
        usable = False
        assert str(error) and "\n" not in str(error)
    try:
        check_arguments(schema, arguments)
    except Fault as fault:
        # What was found usable is never at fault itself; a dynamic scope may still end in a circle.
        assert not usable or fault.kind is not FaultKind.UNAVAILABLE or "Recursion" in str(fault)
    assert time.monotonic() - started_s < 5


APPLIED = st.deferred(
    lambda: (
        st.booleans()
        | st.fixed_dictionaries(
            {},
            optional={
                "properties": st.dictionaries(KEYS, APPLIED, max_size=2),
                "patternProperties": st.dictionaries(
                    st.sampled_from(["^a", "b$", "[ab]c"]), APPLIED, max_size=2
                ),
                "additionalProperties": APPLIED,
                "unevaluatedProperties": APPLIED,
                "allOf": st.lists(APPLIED, min_size=1, max_size=2),
                "anyOf": st.lists(APPLIED, min_size=1, max_size=2),
                "oneOf": st.lists(APPLIED, min_size=1, max_size=2),
                "not": APPLIED,
                "if": APPLIED,
                "then": APPLIED,
                "else": APPLIED,
                "dependentSchemas": st.dictionaries(KEYS, APPLIED, max_size=2),
                "$ref": st.sampled_from(["#/$defs/b", "#/$defs/c"]),
                "type": st.sampled_from(["object", "integer"]),
                "required": st.lists(KEYS, max_size=1),
            },
        )
    )
)
KEYS = st.sampled_from(["a", "b", "ac", "bc"])


# Many a random schema is a circle, which is refused: too many for hypothesis's own bound.
@settings(max_examples=50, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    APPLIED.filter(lambda schema: isinstance(schema, dict)),
    st.fixed_dictionaries({"b": APPLIED, "c": APPLIED}),
    st.dictionaries(KEYS, st.integers() | st.dictionaries(KEYS, st.integers(), max_size=2)),
)
def test_the_bounded_keywords_judge_as_the_library_does(
    schema: dict[str, Any], defined: dict[str, Any], arguments: dict[str, Any]
) -> None:
    schema = {**schema, "$defs": defined}
    try:
        check_schema(schema)  # a circle of references ends neither way
    except BadSchema:
        reject()
    expected = Draft202012Validator(schema).is_valid(arguments)
    assert (BoundedValidator(schema).first_error(arguments) is None) == expected
