"""The signature of a function, or why it cannot be a tool."""

from pathlib import Path

import jsonschema
import pytest

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.workers.tools.builtin.function import FunctionLimits, FunctionTool


def test_the_signature_comes_from_hints_defaults_and_docstring(folder: Path) -> None:
    signature = FunctionTool("mine.tools:convert", python_path=[folder]).signature
    assert signature.name == "convert"
    assert signature.description == "Converts a length.\n\nBetween kilometres and miles."
    jsonschema.Draft202012Validator.check_schema(signature.schema)
    assert signature.schema == {
        "type": "object",
        "additionalProperties": False,
        "required": ["amount", "unit"],
        "properties": {
            "amount": {"type": "number", "description": "how much"},
            "unit": {"type": "string", "enum": ["km", "mile"]},
            "digits": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 2},
            "schema": {"type": "boolean", "default": False},
        },
    }


def test_a_function_without_arguments_has_an_empty_object(folder: Path) -> None:
    schema = FunctionTool("mine.tools:nothing", python_path=[folder]).signature.schema
    assert schema == {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("mine.tools", "not an import path; write package.module:name"),
        ("mine.tools:", "not an import path"),
        (":convert", "not an import path"),
        ("nowhere:f", "No module named 'nowhere'; correct the path, or set PYTHONPATH"),
        ("needs:f", "No module named 'nowhere_at_all'"),
        ("mine.tools:absent", "has no attribute 'absent'; correct the name"),
        ("mine.tools:constant", "constant is a int; name a function"),
        ("mine.tools:unhinted", "argument x has no type hint; add one"),
        ("mine.tools:many", "argument values cannot be given by name"),
        ("mine.tools:positional", "argument x cannot be given by name"),
        ("mine.tools:unhintable", "use hints that JSON can hold"),
        ("mine.tools:unknown", "name 'Nowhere' is not defined"),
        ("broken:f", "its import fails: RuntimeError: not today; correct it"),
        ("syntax:f", "SyntaxError"),
        ("leaves:f", "exit code 7 at its import"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_one_line(folder: Path, path: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        FunctionTool(path, python_path=[folder])
    line = str(error.value)
    assert line.startswith(f"function {path}: ") and says in line and "\n" not in line


def test_a_module_that_never_ends_its_import_is_one_line(folder: Path) -> None:
    with pytest.raises(ConfigError, match="hangs:f: not ready within 1 s at its import"):
        FunctionTool("hangs:f", FunctionLimits(start_s=1.0), [folder])
