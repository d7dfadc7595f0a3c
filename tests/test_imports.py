"""Imports run one way: a layer imports only layers below it, and Ray stays at the edges.

Imports inside functions and under TYPE_CHECKING count like any other.
"""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PACKAGE = "orchestra_ray"

# From the bottom up. A name is a package below orchestra_ray, "orchestra_ray" its own __init__.py,
# "jobs" the entry points beside it. Two packages of one layer do not import each other. "data" and
# "workers" are folders of packages and hold no code of their own.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("config",),
    ("data.catalogue", "tracking"),
    ("data.preferences",),
    ("data.tasks",),
    ("sandbox", "spend", "weights"),
    ("workers.tools",),
    ("workers.rollout", "workers.reward", "workers.learner"),
    ("sft", "evaluation"),
    ("driver",),
    (PACKAGE,),
    ("cli",),
    ("jobs",),
)
RAY_GLUE = {"driver", "cli", "jobs"}
FOLDERS = {name.split(".")[0] for layer in LAYERS for name in layer if "." in name}
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}

FILES = {
    path.relative_to(REPOSITORY): path
    for folder in (PACKAGE, "jobs")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
    if path.parent.name not in FOLDERS
}


def test_every_package_and_module_has_a_layer() -> None:
    assert {owner(file) for file in FILES} == RANK.keys()


def test_folders_of_packages_hold_no_code() -> None:
    for folder in FOLDERS:
        names = {path.name for path in (REPOSITORY / PACKAGE / folder).glob("*.py")}
        assert names == {"__init__.py"}


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
from orchestra_ray.workers import tools
def f():
    from orchestra_ray.driver.run import train
"""
    assert roots(source) == {"ray", PACKAGE}
    assert layers(source) == {"workers.tools", "driver"}
    assert layers("from orchestra_ray import train") == {PACKAGE}


def owner(file: Path) -> str:
    """The name in LAYERS of what a file belongs to."""
    if file.parts[0] != PACKAGE:
        return file.parts[0]
    return layer_of(file.with_suffix("").parts[1:])


def layer_of(parts: Sequence[str]) -> str:
    """The name in LAYERS of a dotted name below orchestra_ray."""
    names = (".".join(parts[:depth]) for depth in (2, 1))
    return next((name for name in names if name in RANK), PACKAGE)


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
    return {layer_of(rest) for rest in ours}
