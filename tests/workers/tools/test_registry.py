"""From catalogue entries to tools: settings are read before anything starts."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.config import Config
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.data.catalogue import Catalogue, Choice, Entry, Kind, Limits
from orchestra_ray.driver.preflight import preflight
from orchestra_ray.workers.tools.registry import (
    BACKENDS,
    available,
    check_backends,
    checked_settings,
    make_tools,
)
from orchestra_ray.workers.tools.runtime.executor import Executor

SERVER = {"name": "tests", "command": [sys.executable, f"{Path(__file__).parent}/mcp_server.py"]}
URL = "http://127.0.0.1:9/v1"
SMALL = Limits(context_tokens=2_048, max_output_tokens=512)


def entry(backend: str, **settings: Any) -> Entry:
    kind = Kind.MODEL if backend in BACKENDS[Kind.MODEL] else Kind.TOOL
    return Entry("it", kind, "", backend, Prices(), 0.0, SMALL, settings=settings)


def check(one: Entry) -> None:
    if one.backend == "recipe":
        one = replace(one, choices=(Choice("by-1", "model", "", 1.0),))
    check_backends(Catalogue({"it": one}, "prices"))


@pytest.mark.parametrize(
    ("backend", "settings"),
    [
        ("simulated", {}),
        ("endpoint", {"base_urls": [URL], "model": "m", "temperature": 1, "system": None}),
        ("calculator", {}),
        ("python", {"memory_mib": 128}),
        ("search", {"corpus": "not/there/yet", "dense": {"model": "nowhere"}}),
        ("web_search", {"search_depth": "advanced"}),
        ("function", {"path": "no_such_module:function"}),
        ("mcp", {"server": {"name": "tests", "command": ["no-such-command"]}, "tool": "add"}),
        ("recipe", {"task": "Look it up."}),
    ],
)
def test_good_settings_pass_and_nothing_is_started(backend: str, settings: dict[str, Any]) -> None:
    check(entry(backend, **settings))


def test_every_executor_has_settings_in_the_tests() -> None:
    marks = test_good_settings_pass_and_nothing_is_started.pytestmark  # type: ignore[attr-defined]
    tried = {backend for backend, _ in marks[0].args[1]}
    assert tried == {name for kinds in BACKENDS.values() for name in kinds}


@pytest.mark.parametrize(
    ("backend", "settings", "says"),
    [
        ("simulated", {"skil": 1}, "settings.skil: no such setting; it has none"),
        (
            "endpoint",
            {"base_urls": [URL], "model": "m", "temprature": 1},
            "settings.temprature: no such setting; choose from: base_urls, model, ",
        ),
        ("endpoint", {"base_urls": [URL]}, "settings.model: "),
        ("endpoint", {"base_urls": [], "model": "m"}, "no base_urls"),
        ("endpoint", {"base_urls": ["host"], "model": "m"}, "write it like http://host:8000/v1"),
        ("endpoint", {"base_urls": [URL], "model": "m", "parser": "x"}, "settings.parser: no such"),
        ("python", {"memory_mb": 1}, "settings.memory_mb: no such setting"),
        ("python", {"memory_mib": "much"}, "settings.memory_mib: "),
        ("search", {"corpus": "c", "dense": {"modle": "m"}}, "settings.dense.modle: no such"),
        ("search", {"corpus": "c", "top_k": 0}, "top_k is 0"),
        ("web_search", {"search_depth": "deep"}, "settings.search_depth: "),
        ("function", {}, "settings.path: "),
        ("mcp", {"server": {"name": "x"}, "tool": "t"}, "give it a command or a url"),
        ("mcp", {"server": {"name": "x", "cmd": "y"}, "tool": "t"}, "settings.server.cmd: no such"),
    ],
)
def test_bad_settings_are_one_line_that_names_them(
    backend: str, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check(entry(backend, **settings))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_an_executor_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match="it: no backend abacus; choose from: calculator, "):
        check(replace(entry("calculator"), backend="abacus"))


def test_a_run_is_refused_before_any_tool_or_actor_starts(
    quickstart: Config, tmp_path: Path
) -> None:
    text = Path(quickstart.catalogue.path).read_text()
    path = tmp_path / "catalogue.yaml"
    path.write_text(
        text.replace("backend: calculator", "backend: calculator\n    settings: {digits: 3}")
    )
    catalogue = replace(quickstart.catalogue, path=str(path))
    with pytest.raises(ConfigError, match="calculator: settings.digits: no such setting"):
        preflight(replace(quickstart, catalogue=catalogue, runs_dir=str(tmp_path)))


@pytest.mark.parametrize(
    "wrong",
    [
        entry("mcp", server={"name": "s", "command": "npx server --password sesame"}),
        entry("endpoint", base_urls="bob:sesame@host/v1", model="m"),
    ],
)
def test_a_setting_that_is_no_list_is_told_without_its_value(wrong: Entry) -> None:
    with pytest.raises(ConfigError, match=r"it is a list; write it in \[ \]") as caught:
        checked_settings(wrong)
    assert "sesame" not in str(caught.value)


def test_what_this_machine_cannot_offer_is_left_out_with_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    offered = {"web": entry("web_search"), "code": entry("python"), "sum": entry("calculator")}
    kept, lines = available(Catalogue(offered, "prices"))
    assert list(kept.entries) == ["sum"]
    assert len(lines) == 2
    assert any("TAVILY_API_KEY is not set" in line for line in lines.values())
    assert any("there is no bwrap; apt install bubblewrap" in line for line in lines.values())


def test_the_tools_of_an_mcp_server_are_entries_and_share_its_process(
    make_request: Callable[..., ToolRequest], local_spend: Callable[..., Any]
) -> None:
    entries = {
        name: replace(entry("mcp", server=SERVER, tool="process"), name=name)
        for name in ("one", "two")
    }
    catalogue = Catalogue(entries, "prices")

    async def main() -> list[str]:
        backend = Executor(catalogue, make_tools(catalogue), local_spend())
        try:
            asked = [make_request(each, call_id=name) for name, each in entries.items()]
            return [(await backend.execute(request)).text for request in asked]
        finally:
            await backend.close()

    one, two = asyncio.run(main())
    assert one == two and int(one) > 1
