"""Programs as answers: their tests run in the sandbox, and nowhere else."""

import asyncio
from typing import Any

import pytest

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.records import Caller, Task
from orchestra_ray.sandbox.command import SandboxLimits
from orchestra_ray.workers.reward.judges import code
from orchestra_ray.workers.reward.judges.code import CodeGrader
from orchestra_ray.workers.reward.judges.verdict import Verdict

CALLER = Caller(1, "g", "g/0/judge", 0)
TESTS = "assert twice(3) == 6\nassert twice(-1) == -2"
TASK = Task("t", "code", "Write twice(n).", {"answer": "", "judge": "code", "tests": TESTS})
ANSWERS = {
    "def twice(n):\n    return 2 * n": "passes the tests",
    "Sure:\n```python\ndef twice(n):\n    return n + n\n```\nIt adds.": "passes the tests",
    "def twice(n):\n    print('x' * 50_000)\n    return 2 * n": "passes the tests",
    "def twice(n):\n    return 6": "fails the tests",
    "def thrice(n):\n    return 3 * n": "fails the tests",
    "def twice(n:\n": "fails the tests",
    "": "fails the tests",
    "import sys\nsys.exit(0)": "fails the tests",
    "import os\nprint('passes the tests')\nos._exit(0)": "fails the tests",
    "import socket\nsocket.create_connection(('127.0.0.1', 1))": "fails the tests",
    "while True: pass": "ended by its limit of",
    "\ud800": "fails the tests",
    "#" * 300_000: "longer than 262144 bytes",
}


async def judged(*answers: str) -> list[Any]:
    grader = CodeGrader()
    try:
        return list(await asyncio.gather(*(grader.grade(TASK, one, CALLER) for one in answers)))
    finally:
        await grader.close()


def test_a_program_is_right_where_it_survives_its_tests(
    sandbox_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "LIMITS", SandboxLimits(wall_s=30.0, cpu_s=1))
    found = asyncio.run(judged(*ANSWERS))
    for verdict, why in zip(found, ANSWERS.values(), strict=True):
        assert isinstance(verdict, Verdict) and verdict.reason.startswith(why)
        assert verdict.correct == (why == "passes the tests")


# A correct program, and its tests.
RIGHT = [
    (
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int = 2",
        "assert P().x == 2",
    ),
    (
        "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass P:\n"
        "    x: int\n    y: dataclasses.InitVar[int] = 2",
        "assert [f.name for f in dataclasses.fields(P(1))] == ['x']",
    ),
    ("def f(a: int) -> str: ...", "assert f.__annotations__ == {'a': int, 'return': str}"),
    (
        "from __future__ import annotations\nclass N:\n    x: list[N]",
        "import typing\nassert typing.get_type_hints(N) == {'x': list[N]}",
    ),
    ("import pickle\nclass A: pass", "assert type(pickle.loads(pickle.dumps(A()))) is A"),
    (
        "import inspect\ndef g():\n    return 1",
        "assert inspect.getsource(g) == 'def g():\\n    return 1\\n'",
    ),
    ("def f(): return 1\nif __name__ == '__main__':\n    print(input())", "assert f() == 1"),
    ("\ufeffdef f(): return 'é'", "assert f() == 'é'"),
    ("# -*- coding: latin-1 -*-\ndef f(): return 'é'", "assert f() == 'é'"),
    ("def f():\r\n    return '''a\r\nb'''\r\n", "assert f() == 'a\\nb'\r\nassert f()\r\n"),
    ("def f(n): return 0 if n == 0 else 1 + f(n - 1)", "assert f(990) == 990"),
    (
        "import multiprocessing\ndef square(x): return x * x\ndef f():\n"
        "    with multiprocessing.get_context('spawn').Pool(2) as pool:\n"
        "        return pool.map(square, [1, 2])",
        "assert f() == [1, 4]",
    ),
    ("K = 1\ndef f(): return K", "K = 5\nassert f() == 5"),
    ("import sys\ndef f(): return sys.modules[__name__].f", "assert f() is f"),
    ("def f(): return 1", "from answer import f as g\nassert g is f"),
    ("# " + "你好" * 20_000 + "\ndef f(): return 1", "assert f() == 1"),
    (
        "def f():\n    '''\n    >>> f()\n    1\n    '''\n    return 1",
        "import doctest\nassert doctest.testmod() == (0, 1)",
    ),
]


async def tried(*pairs: tuple[str, str]) -> list[Any]:
    """The verdicts on pairs of a program and its tests."""
    grader = CodeGrader()
    tasks = [(Task("t", "code", "", {"tests": tests}), program) for program, tests in pairs]
    try:
        return await asyncio.gather(*(grader.grade(*one, CALLER) for one in tasks))
    finally:
        await grader.close()


def test_a_correct_program_is_right_whatever_it_says_of_itself(sandbox_here: None) -> None:
    verdicts = asyncio.run(tried(*RIGHT))
    assert [case for case, one in zip(RIGHT, verdicts, strict=True) if not one.correct] == []


def test_tests_that_do_not_run_to_their_end_are_not_passed(sandbox_here: None) -> None:
    program = "import sys\ndef f(): sys.exit(0)"
    main = "if __name__ == '__main__':\n    assert f is None"
    verdicts = asyncio.run(
        tried(*((program, tests) for tests in ("f()", main, "raise SystemExit(0)")))
    )
    assert {one.reason for one in verdicts} == {"fails the tests"}


def test_without_a_sandbox_nothing_runs_and_the_judge_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    (failure,) = asyncio.run(judged("def twice(n): return 2 * n"))
    assert isinstance(failure, Failure) and failure.kind is FailureKind.REWARD
    assert failure.where == "judge code" and "sandbox: there is no bwrap" in failure.message
