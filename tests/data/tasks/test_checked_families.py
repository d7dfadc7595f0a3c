"""The list of checked families is held against the source of the installed reasoning-gym."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import reasoning_gym
from reasoning_gym.factory import DATASETS

from orchestra_ray.config import Config
from orchestra_ray.config.schema import FamilyConfig
from orchestra_ray.data.tasks.checked_families import CHECKED_FAMILIES, TAKES_JUNK
from orchestra_ray.data.tasks.reasoning_gym import TaskSource, reference, score_here

EVALUATE = {"eval", "exec", "compile", "parse_expr", "sympify", "simplify", "literal_eval"}
REACH_OUT = {"open", "print", "input", "system", "popen", "subprocess", "os", "sys", "pickle"}
IMPORT = {"__import__", "import_module", "getattr", "setattr", "globals", "locals", "vars"}
UNBOUNDED = {"Fraction", "pow", "factorial", "comb", "perm", "loadtxt", "zss"}
FORBIDDEN = EVALUATE | REACH_OUT | IMPORT | UNBOUNDED
JUNK = (
    "junk|x|yes|no|None|null|0|1|-1|42|3.14|[]|{}|()|[0]|[[]]|[1, 2, 3]|a b c|A|?|.|-|x = 1|1/0|(|"
    "lorem ipsum dolor sit amet|R U R'|I do not know|<answer>|0 0\n0 0|unsolvable|[x]|True|False"
).split("|")
OWN_POWERS = {"decimal_arithmetic"}  # of ten, by the family's settings


def test_every_listed_family_exists() -> None:
    assert set(DATASETS) >= CHECKED_FAMILIES


def test_the_quick_starts_families_need_no_sandbox(quickstart: Config) -> None:
    assert {family.name for family in quickstart.tasks.families} <= CHECKED_FAMILIES


@pytest.mark.parametrize(
    "family",
    "n_queens string_insertion spiral_matrix binary_matrix countdown puzzle24 simple_integration"
    " intermediate_integration polynomial_multiplication composite coin_flip rubiks_cube".split(),
)
def test_what_evaluates_or_has_no_bound_is_found_and_is_not_listed(family: str) -> None:
    assert family not in CHECKED_FAMILIES
    if family not in ("composite", "rubiks_cube"):  # these were found by reading
        assert mentioned(family) & FORBIDDEN


@pytest.mark.parametrize("family", sorted(CHECKED_FAMILIES))
def test_a_listed_scorer_evaluates_nothing_and_reaches_nothing(family: str) -> None:
    assert not mentioned(family) & FORBIDDEN
    powers = [
        node
        for source in sources(family)
        for node in ast.walk(source)
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Pow)
    ]
    assert not powers or family in OWN_POWERS


@pytest.mark.parametrize("family", sorted(CHECKED_FAMILIES))
def test_a_listed_scorer_takes_nearly_no_junk_for_right(family: str) -> None:
    source = TaskSource([FamilyConfig(name=family)], 11, 3)
    for task in (source.make(0, i) for i in range(3)):
        right = [one for one in JUNK if one != reference(task) and score_here(task, one).correct]
        assert len(right) < len(JUNK) / 10, right


def test_what_is_refused_takes_junk_and_is_not_listed() -> None:
    assert not TAKES_JUNK.keys() & CHECKED_FAMILIES
    for family, what in TAKES_JUNK.items():
        scorer: Any = reasoning_gym.get_score_answer_fn(family)
        for entry in reasoning_gym.create_dataset(family, seed=11, size=3):
            junk = JUNK if what == "any answer" else [what]
            assert {scorer(one, entry) for one in junk} == {1.0}


def mentioned(family: str) -> set[str]:
    """All names and attributes in a family's scorer and in what it calls of the library."""
    nodes = [node for source in sources(family) for node in ast.walk(source)]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def sources(family: str) -> Iterator[ast.AST]:
    """The scorer's source, and that of every function of the library that it mentions."""
    cls = DATASETS[family][0]
    waiting, seen = [cls.score_answer], set()
    while waiting:
        function = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        yield tree
        waiting += [one for node in ast.walk(tree) for one in named(node, cls, function)]


def named(node: ast.AST, cls: type, function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """What a name or an attribute stands for, if it is code of the library."""
    module = inspect.getmodule(function)
    if isinstance(node, ast.Name):
        yield from own(getattr(module, node.id, None))
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        owner = cls if node.value.id in ("self", "cls") else getattr(module, node.value.id, None)
        yield from own(getattr(owner, node.attr, None))


def own(found: Any) -> Iterator[Callable[..., Any]]:
    if inspect.isroutine(found) and (found.__module__ or "").startswith(reasoning_gym.__name__):
        yield found
