"""Programs as answers: their tests run in the sandbox, and nowhere else."""

import asyncio
from typing import Any

import pytest

from orchestra_ray.core.records import Asker, Task
from orchestra_ray.core.states import Failure, FailureKind
from orchestra_ray.reward.judges import code
from orchestra_ray.reward.judges.code import CodeJudge
from orchestra_ray.reward.judges.verdict import Verdict
from orchestra_ray.tools.sandbox_setup import Limits

ASKER = Asker(1, "g", "g/0/judge", 0)
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
    judge = CodeJudge()
    try:
        return list(await asyncio.gather(*(judge.judge(TASK, one, ASKER) for one in answers)))
    finally:
        await judge.close()


def test_a_program_is_right_where_it_survives_its_tests(
    sandbox_here: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "LIMITS", Limits(wall_s=30.0, cpu_s=1))
    found = asyncio.run(judged(*ANSWERS))
    for verdict, why in zip(found, ANSWERS.values(), strict=True):
        assert isinstance(verdict, Verdict) and verdict.reason.startswith(why)
        assert verdict.correct == (why == "passes the tests")


def test_without_a_sandbox_nothing_runs_and_the_judge_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    (failure,) = asyncio.run(judged("def twice(n): return 2 * n"))
    assert isinstance(failure, Failure) and failure.kind is FailureKind.REWARD
    assert failure.where == "judge code" and "sandbox: there is no bwrap" in failure.message
