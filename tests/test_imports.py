"""Imports run one way: a layer imports only layers below it, and Ray stays at the edges.

Imports inside functions and under TYPE_CHECKING count like any other.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGE = "orchestra_ray"

# From the bottom up. A name is a package or a module of orchestra_ray, "orchestra_ray" its own
# __init__.py, "jobs" the entry points beside it. Two names of one layer do not import each other.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("config",),
    ("catalogue", "tracking"),
    ("preferences",),
    ("tasks",),
    ("tools", "weights"),
    ("reward", "rollout", "learner"),
    ("warmstart", "evaluation"),
    ("driver",),
    ("preflight", "doctor", "commands"),
    (PACKAGE,),
    ("cli",),
    ("jobs",),
)
RAY_GLUE = {"driver", "cli", "jobs"}
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

FILES = {
    path.relative_to(REPOSITORY): path
    for folder in (PACKAGE, "jobs")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
}


def test_every_package_and_module_has_a_layer() -> None:
    assert {owner(file) for file in FILES} == RANK.keys()


def test_a_file_imports_only_its_own_package_and_layers_below() -> None:
    upward = {
        f"{file}: {name}"
        for file, path in FILES.items()
        for name in layers(path.read_text()) - {owner(file)}
        if RANK[name] >= RANK[owner(file)]
    }
    assert not upward


def test_ray_is_imported_only_by_actors_and_the_glue_around_them() -> None:
    users = {file for file, path in FILES.items() if "ray" in roots(path.read_text())}
    edge = {file for file in FILES if file.name == "actor.py" or owner(file) in RAY_GLUE}
    assert users <= edge


def test_core_needs_neither_ray_nor_torch() -> None:
    needed = {
        root for file in FILES if owner(file) == "core" for root in roots(FILES[file].read_text())
    }
    assert needed.isdisjoint({"ray", "torch", "vllm", "deepspeed"})


def test_imports_are_found_wherever_they_stand() -> None:
    source = """
import ray.util
from orchestra_ray import tools
def f():
    from orchestra_ray.driver.run import train
"""
    assert roots(source) == {"ray", PACKAGE}
    assert layers(source) == {"tools", "driver"}
    assert layers("from orchestra_ray import train") == {PACKAGE}


def owner(file: Path) -> str:
    """The name in LAYERS of what a file belongs to."""
    if file.parts[0] != PACKAGE:
        return file.parts[0]
    name = file.with_suffix("").parts[1]
    return PACKAGE if name == "__init__" else name


def imports(source: str) -> Iterator[str]:
    """Full dotted names: `from a.b import c` is `a.b.c`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"line {node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def roots(source: str) -> set[str]:
    """The top-level packages that a source imports."""
    return {name.split(".")[0] for name in imports(source)}


def layers(source: str) -> set[str]:
    """The names in LAYERS that a source imports."""
    ours = (name.split(".")[1:] for name in imports(source) if name.split(".")[0] == PACKAGE)
    return {rest[0] if rest and rest[0] in RANK else PACKAGE for rest in ours}
