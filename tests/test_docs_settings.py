"""docs/backends.md names every setting of every backend, and no other."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from orchestra_ray.sandbox.command import SandboxLimits
from orchestra_ray.workers.tools.builtin.recipe import RecipeSettings
from orchestra_ray.workers.tools.endpoint.settings import EndpointSettings
from orchestra_ray.workers.tools.mcp.server import McpToolSettings
from orchestra_ray.workers.tools.mcp.session import McpSettings
from orchestra_ray.workers.tools.registry import BACKENDS, FunctionSettings
from orchestra_ray.workers.tools.search.dense import DenseSettings
from orchestra_ray.workers.tools.search.tool import SearchSettings
from orchestra_ray.workers.tools.search.web import WebSettings

PAGE = (Path(__file__).parents[1] / "docs/backends.md").read_text()
SECTIONS = {
    "endpoint": [EndpointSettings],
    "python": [SandboxLimits],
    "search": [SearchSettings, DenseSettings],
    "web_search": [WebSettings],
    "function": [FunctionSettings],
    "mcp": [McpToolSettings, McpSettings],
    "recipe": [RecipeSettings],
}


@pytest.mark.parametrize("backend", SECTIONS)
def test_the_page_names_the_settings_of(backend: str) -> None:
    section = PAGE.split(f"\n## `{backend}`")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", section, re.M)
    named = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert sorted(named) == sorted(one.name for shape in SECTIONS[backend] for one in fields(shape))


def test_the_page_has_every_backend() -> None:
    known = {name for kinds in BACKENDS.values() for name in kinds}
    assert all(f"`{name}`" in PAGE for name in known)
