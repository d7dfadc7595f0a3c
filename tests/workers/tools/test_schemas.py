"""From a catalogue file that states no schema to a call, with real functions and MCP servers."""

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.cli import findings
from orchestra_ray.cli.findings import Verdict
from orchestra_ray.config import load
from orchestra_ray.config.enums import CassetteMode
from orchestra_ray.config.schema import CassetteConfig, CatalogueConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.records import Caller, Task, ToolRequest, ToolsetSample
from orchestra_ray.data.catalogue import Catalogue, load_catalogue, sample_toolset
from orchestra_ray.data.catalogue.signatures import signatures
from orchestra_ray.workers.tools.availability import left_out, unavailable_entries
from orchestra_ray.workers.tools.registry import available, check_backends, make_tools
from orchestra_ray.workers.tools.runtime.executor import Executor
from orchestra_ray.workers.tools.validation import resolve

SERVER = Path(__file__).parent / "mcp_server.py"
RAW_SERVER = Path(__file__).parent / "raw_mcp_server.py"
MODULE = '''
import sys
from typing import Annotated, Literal
from pydantic import BaseModel, Field

class Place(BaseModel):
    name: str
    near: list[str] = []

def distance(
    start: Place, end: Place, unit: Annotated[Literal["km", "mile"], Field(title="of it")] = "km"
) -> str:
    """How far it is."""
    return f"{start.name} to {end.name}: 7 {unit}"
'''
MODELS = """
models:
  - {name: nova, description: knows, backend: simulated, output_tokens: 10}
tools:
"""
FUNCTION = """
  - name: route
    description: measures a way
    backend: function
    limits: {{retries: 0, deadline_s: 30}}
    settings: {{path: "ways:distance", python_path: ["{folder}"]}}
"""
WHOLE = """
  - name: desk
    description: a tool of the desk
    backend: mcp
    limits: {{retries: 0, deadline_s: 60}}
    settings: {{server: {{name: desk, {where}}}}}
"""
ONE = WHOLE.replace("desk, {where}}}", "desk, {where}}}, tool: {tool}").replace("desk\n", "one\n")


@pytest.fixture
def over_http() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(SERVER), str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        ends_at = time.monotonic() + 60
        while True:
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None and time.monotonic() < ends_at, "it did not start"
            time.sleep(0.05)
        yield f"url: http://127.0.0.1:{port}/mcp"
        process.kill()


@pytest.fixture(params=["stdio", "http"])
def where(request: pytest.FixtureRequest) -> str:
    if request.param == "http":
        return request.getfixturevalue("over_http")
    return f'command: ["{sys.executable}", "{SERVER}"]'


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Catalogue]:
    def write(tools: str, **given: str) -> Catalogue:
        (tmp_path / "ways.py").write_text(MODULE)
        path = tmp_path / "catalogue.yaml"
        path.write_text(MODELS + tools.format(folder=tmp_path, **given))
        catalogue = load_catalogue(path)
        check_backends(catalogue)
        return catalogue

    return write


def sampled(catalogue: Catalogue) -> ToolsetSample:
    return sample_toolset(catalogue, CatalogueConfig(path="none"), seed=1)


def called(catalogue: Catalogue, spend: Any, name: str, **arguments: Any) -> str:
    option = resolve(sampled(catalogue), name, arguments)
    task = Task("t", "family", "?", {})
    request = ToolRequest("c", Caller(1, "g", "g/0", 0), option, arguments, task, 0, 0)

    async def main() -> str:
        executor = Executor(catalogue, make_tools(catalogue), spend)
        try:
            return (await executor.execute(request)).text
        finally:
            await executor.close()

    return asyncio.run(main())


def test_a_function_is_called_by_its_type_hints_alone(
    write: Callable[..., Catalogue], local_spend: Callable[..., Any]
) -> None:
    catalogue, _ = available(write(FUNCTION))
    parameters = catalogue.entries["route"].parameters
    assert parameters["required"] == ["start", "end"]
    assert parameters["properties"]["unit"]["enum"] == ["km", "mile"]
    assert "ways" not in sys.modules
    offered = sampled(catalogue).option("route")
    assert offered is not None and offered.parameters == parameters
    there = {"start": {"name": "here"}, "end": {"name": "there", "near": ["x"]}}
    assert called(catalogue, local_spend(), "route", **there) == "here to there: 7 km"
    for change, kind in (
        ({"end": {}}, FaultKind.WRONG_TYPE),
        ({"unit": "league"}, FaultKind.WRONG_TYPE),
        ({"via": 1}, FaultKind.EXTRA_ARGUMENT),
    ):
        with pytest.raises(Fault) as caught:
            resolve(sampled(catalogue), "route", there | change)
        assert caught.value.kind is kind


def test_what_the_catalogue_states_stands_and_nothing_is_asked(
    write: Callable[..., Catalogue],
) -> None:
    stated = "    parameters: {{type: object, properties: {{start: {{type: string}}}}}}\n"
    given = write(FUNCTION.replace("ways:", "no_such_module:") + stated)
    assert available(given)[0] == given


def test_a_function_that_cannot_be_introduced_is_one_line(write: Callable[..., Catalogue]) -> None:
    with pytest.raises(ConfigError, match="function no_such:distance: .*No module named"):
        available(write(FUNCTION.replace("ways:", "no_such:")))


def test_an_entry_without_a_tool_stands_for_all_of_its_server(
    write: Callable[..., Catalogue], where: str, local_spend: Callable[..., Any]
) -> None:
    catalogue, _ = available(write(WHOLE, where=where))
    names = [name for name in catalogue.tools if name.startswith("desk_")]
    assert {"desk_add", "desk_echo", "desk_order"} <= set(names) and "desk" not in catalogue.tools
    assert catalogue.entries["desk_add"].description == "The sum of two integers."
    check_backends(catalogue)
    spend = local_spend()
    assert called(catalogue, spend, "desk_add", a=2, b=40) == "42"
    ordered = {"items": [{"name": "tea", "count": 2}, {"name": "jam"}]}
    assert called(catalogue, spend, "desk_order", order=ordered) == "2 tea, 1 jam"
    with pytest.raises(Fault) as caught:
        called(catalogue, spend, "desk_add", a="2", b=40)
    assert caught.value.kind is FaultKind.WRONG_TYPE


def test_an_entry_that_names_a_tool_takes_over_its_schema(
    write: Callable[..., Catalogue], where: str, local_spend: Callable[..., Any]
) -> None:
    catalogue, _ = available(write(ONE, where=where, tool="add"))
    assert catalogue.entries["one"].parameters["required"] == ["a", "b"]
    assert called(catalogue, local_spend(), "one", a=2, b=40) == "42"
    with pytest.raises(ConfigError, match="the server has no tool nothing; choose from: echo, add"):
        available(write(ONE, where=where, tool="nothing"))


def test_a_listing_is_recorded_and_a_replay_asks_no_server(
    write: Callable[..., Catalogue], tmp_path: Path
) -> None:
    given = write(WHOLE, where=f'command: ["{sys.executable}", "{SERVER}"]')
    tape = str(tmp_path / "tape")
    live, _ = available(given, CassetteConfig(CassetteMode.RECORD, tape))
    gone = write(WHOLE, where='command: ["no-such-command"]')
    replayed, _ = available(gone, CassetteConfig(CassetteMode.REPLAY, tape))
    assert {n: e.parameters for n, e in replayed.entries.items()} == {
        n: e.parameters for n, e in live.entries.items()
    }
    other = write(
        WHOLE.replace("name: desk,", "name: chair,"), where='command: ["no-such-command"]'
    )
    with pytest.raises(ConfigError, match="desk: its listing: this call was not recorded"):
        available(other, CassetteConfig(CassetteMode.REPLAY, tape))
    with pytest.raises(ConfigError, match="MCP: desk cannot be reached"):
        available(gone)


# Schemas of one tool beside a good one, and what is said of it.
UNUSABLE: list[tuple[Any, str]] = [
    ({"type": "object", "properties": {"a": {"$ref": "http://127.0.0.1:9/x.json"}}}, "outside the"),
    ({"properties": {"a": {"$ref": "#/$defs/x"}}}, "names nothing in the schema"),
    ({"$ref": "#"}, "leads back to itself"),
    ({"$schema": "http://example.org/mine"}, "not a known dialect"),
    ({"type": "array"}, "inputSchema.type: Input should be 'object'"),
    ({"properties": {"a": {"type": "text"}}}, "'text' is not valid"),
    ({"properties": []}, "inputSchema.properties: Input should be a valid dictionary"),
    ({"required": "a"}, "inputSchema.required: Input should be a valid list"),
    ([], "inputSchema: Input should be a valid dictionary"),
    (True, "inputSchema: Input should be a valid dictionary"),
    (None, "inputSchema: Field required"),
]


def raw(folder: Path, tools: dict[str, Any]) -> str:
    path = folder / "tools.json"
    path.write_text(json.dumps(tools))
    return f'command: ["{sys.executable}", "{RAW_SERVER}", "{path}"]'


def listing(schema: Any, **more: Any) -> dict[str, Any]:
    result = {"content": [{"type": "text", "text": "done"}]}
    return {"listing": {"inputSchema": schema} | more, "result": result}


@pytest.mark.parametrize(("schema", "says"), UNUSABLE)
def test_a_tool_with_a_schema_of_no_use_is_left_out_alone(
    write: Callable[..., Catalogue], tmp_path: Path, schema: Any, says: str
) -> None:
    where = raw(tmp_path, {"bad": listing(schema), "good": listing({"type": "object"})})
    catalogue, lines = available(write(WHOLE, where=where))
    assert list(catalogue.tools) == ["desk_good"]
    assert lines.keys() == {"desk_bad"}
    line = lines["desk_bad"]
    assert "\n" not in line and says in line
    assert line.startswith("desk_bad is absent: its schema cannot be used: ")
    assert line.endswith("; give parameters, or correct the tool")
    one, lines = available(write(ONE + WHOLE, where=where, tool="bad"))
    assert list(one.tools) == ["desk_good"]
    assert list(lines) == ["one", "desk_bad"]


def test_a_listing_may_hold_what_has_no_name_or_a_bad_schema_of_results(
    write: Callable[..., Catalogue], tmp_path: Path
) -> None:
    tools = {
        "named": listing({"type": "object"}),
        "nameless": listing({"type": "object"}, name=None),
        "odd": listing({"type": "object"}, outputSchema="text"),
    }
    catalogue, lines = available(write(WHOLE, where=raw(tmp_path, tools)))
    assert list(catalogue.tools) == ["desk_named"]
    assert any("has no name" in line for line in lines.values()) and len(lines) == 2


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"properties": None, "required": None, "type": "object"},  # as Go's encoder writes it
        {"type": ["object", "null"]},
    ],
)
def test_a_schema_with_one_meaning_is_mended(
    write: Callable[..., Catalogue],
    local_spend: Callable[..., Any],
    tmp_path: Path,
    schema: dict[str, Any],
) -> None:
    where = raw(tmp_path, {"t": listing(schema)})
    catalogue, lines = available(write(WHOLE, where=where))
    assert not lines and called(catalogue, local_spend(), "desk_t") == "done"


def test_what_runs_a_tool_that_is_left_out_is_left_out_with_it(
    write: Callable[..., Catalogue], tmp_path: Path
) -> None:
    recipe = """
  - name: solver
    description: solves
    backend: recipe
    runs: one
    choices: [{{name: s-1, model: nova, description: d, latency_s: 1}}]
"""
    given = write(ONE + recipe, where=raw(tmp_path, {"bad": listing({"$ref": "#"})}), tool="bad")
    catalogue, lines = available(given)
    assert not catalogue.tools
    assert lines.keys() == {"one", "solver"}
    assert lines["solver"] == "solver is absent with one, which it runs"


def test_stated_parameters_stand_for_a_schema_of_no_use(
    write: Callable[..., Catalogue], local_spend: Callable[..., Any], tmp_path: Path
) -> None:
    stated = "    parameters: {{properties: {{a: {{type: integer}}}}}}\n"
    for schema in ({"$ref": "#"}, [], {"type": "array"}):
        where = raw(tmp_path, {"bad": listing(schema)})
        catalogue, lines = available(write(ONE + stated, where=where, tool="bad"))
        assert not lines and called(catalogue, local_spend(), "one", a=1) == "done"


def test_a_stated_union_stands_though_it_has_no_properties_at_its_root(
    write: Callable[..., Catalogue],
) -> None:
    union = {"anyOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}]}
    stated = f"    parameters: {json.dumps(union)}\n".replace("{", "{{").replace("}", "}}")
    given = write(FUNCTION.replace("ways:", "no_such_module:") + stated)
    assert available(given) == (given, {})


@pytest.mark.parametrize(
    ("schema", "says"),
    [({"$ref": "#"}, "leads back to itself"), ({"$schema": "http://x"}, "not a known dialect")],
)
def test_a_bad_schema_that_the_catalogue_states_is_the_users_mistake(
    write: Callable[..., Catalogue], schema: dict[str, Any], says: str
) -> None:
    stated = f"    parameters: {json.dumps({'properties': {'b': {}}} | schema)}\n"
    with pytest.raises(ConfigError, match=f"route: parameters: .*{says}"):
        write(FUNCTION + stated.replace("{", "{{").replace("}", "}}"))


def test_tools_list_and_doctor_show_what_is_left_out(
    write: Callable[..., Catalogue], tmp_path: Path
) -> None:
    where = raw(tmp_path, {"bad": listing({"$ref": "#"}), "good": listing({"type": "object"})})
    partly = write(WHOLE, where=where)
    why = unavailable_entries(partly)
    assert list(why) == ["desk_bad"] and "leads back to itself" in why["desk_bad"]
    assert [(name, fails) for name, _, fails in left_out(partly)] == [("desk", False)]
    assert list(unavailable_entries(write(ONE, where=where, tool="bad"))) == ["one"]
    gone = write(WHOLE, where='command: ["no-such-command"]')
    assert "cannot be reached" in unavailable_entries(gone)["desk"]
    assert [(name, fails) for name, _, fails in left_out(gone)] == [("desk", True)]


@pytest.mark.parametrize(
    ("tool", "verdict", "says"),
    [
        (listing({}), Verdict.OK, "can be used"),
        (listing({"$ref": "#"}), Verdict.NOTE, "desk_t is absent"),
        (None, Verdict.FAIL, "cannot be reached"),
    ],
)
def test_the_doctor_asks_the_servers_of_a_configuration(
    write: Callable[..., Catalogue], tmp_path: Path, tool: Any, verdict: Verdict, says: str
) -> None:
    write(WHOLE, where=raw(tmp_path, {"t": tool}) if tool else 'command: ["no-such-command"]')
    config = load(["configs/quickstart.yaml"], [f"catalogue.path={tmp_path / 'catalogue.yaml'}"])
    (finding,) = findings._tools_with_own_schema(config)
    assert finding.verdict is verdict and says in finding.detail


ROOTS = {
    "union": {
        "anyOf": [
            {"properties": {"city": {"type": "string"}}, "required": ["city"]},
            {"properties": {"lat": {"type": "number"}}, "required": ["lat"]},
        ]
    },
    "reference": {
        "$ref": "#/$defs/In",
        "$defs": {"In": {"properties": {"city": {"type": "string"}}, "required": ["city"]}},
    },
}


@pytest.mark.parametrize("root", ROOTS)
def test_a_root_that_is_a_union_or_a_reference_is_called_by_its_schema(
    write: Callable[..., Catalogue], local_spend: Callable[..., Any], tmp_path: Path, root: str
) -> None:
    catalogue, lines = available(write(WHOLE, where=raw(tmp_path, {"t": listing(ROOTS[root])})))
    assert not lines
    assert called(catalogue, local_spend(), "desk_t", city="Ulm") == "done"
    with pytest.raises(Fault):
        resolve(sampled(catalogue), "desk_t", {"city": 5})
    with pytest.raises(Fault):
        resolve(sampled(catalogue), "desk_t", {})
    (function,) = [
        one["function"]
        for one in signatures(sampled(catalogue))
        if one["function"]["name"] == "desk_t"
    ]
    assert "city" in function["parameters"]["properties"]
