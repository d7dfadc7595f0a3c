"""Scorers that evaluate an answer: in the sandbox, many in one run, and each answer alone."""

import asyncio
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import reasoning_gym
from reasoning_gym.factory import DATASETS

from orchestra_ray.config.schema import FamilyConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.records import Task
from orchestra_ray.data.tasks.checked_families import CHECKED_FAMILIES, TAKES_JUNK
from orchestra_ray.data.tasks.reasoning_gym import TaskSource, reference
from orchestra_ray.data.tasks.scoring import BrokenTask, Scored
from orchestra_ray.sandbox import family_scorer
from orchestra_ray.sandbox.command import SandboxError
from orchestra_ray.sandbox.family_scorer import CaseReport, FamilyScorer, distributions, require
from orchestra_ray.sandbox.run import Outcome, Sandbox

pytestmark = pytest.mark.usefixtures("sandbox_here")

EVALUATING = (
    "n_queens string_insertion spiral_matrix binary_matrix countdown puzzle24 simple_integration"
    " intermediate_integration polynomial_multiplication"
).split()
UNCHECKED = sorted(set(DATASETS) - CHECKED_FAMILIES - TAKES_JUNK.keys() - {"composite"})
# Scored by rules: what stands in the entry as the answer is not one.
WITHOUT_REFERENCE = {"boxnet", "propositional_logic", "rubiks_cube", "rush_hour"}
OS, SYS = "__import__('os')", "__import__('sys')"
ENDLESS = "any(0 for _ in iter(int, 1))"
ENDS_ITS_PROCESS = [
    f"{OS}._exit(0)",
    f"{OS}.abort()",
    "9**9**9**2",
    f"[print('x' * 10**6, file={SYS}.__stdout__) for n in range(10**9)]",
    f"[{OS}.write(n, b'1.0') for n in range(64)] + [{OS}._exit(0)]",
]
SABOTAGE = [
    f"{OS}.kill({OS}.getppid(), 9)",
    f"{OS}.kill({OS}.getppid(), 19)",
    f"{OS}.kill(-1, 9)",
    f"{OS}.kill(1, 9)",
    f"[{OS}.fork() for n in range(100)]",
    "[bytearray(10**8) for n in range(1000)]",
    "breakpoint()",
    "open('/etc/passwd').read()",
    "[[0]*9**9]*9**9",
    "(" * 5000 + ")" * 5000,
    "\x00",
    "\ud800",
]


WAITS = [
    "__import__('time').sleep(99)",
    "__import__('select').select([], [], [], 99)",
    "__import__('select').poll().poll()",
    "__import__('signal').pause()",
    "__import__('signal').sigwait([1])",
    "__import__('threading').Event().wait(99)",
    "[(k := __import__('threading').Lock()).acquire(), k.acquire()]",
    "__import__('socket').socketpair()[0].recv(1)",
    "__import__('subprocess').run(['sleep', '99'])",
    f"{OS}.wait()",
    f"{OS}.mkfifo('/tmp/f') or open('/tmp/f').read()",
    f"{OS}.read({OS}.pipe()[0], 1)",
]
NONCE = (  # of its own process, from the frames above it
    "(lambda g, f: g(g, f))(lambda g, f: getattr(f.f_locals.get('self'), '_nonce', '')"
    f" or g(g, f.f_back), {SYS}._getframe())"
)
REPLIES = ['["1", null]', "[NaN, null]", "[2, null]", "[1]", "{}", "[" * 3000, "[[], null]"]
FORGED = [f"[{OS}.write(0, ({NONCE} + {reply!r}).encode()), {OS}._exit(0)]" for reply in REPLIES]
JUNK = ["junk", "0", "[[1]]", "x"]


def made(family: str, seed: int = 3) -> Task:
    return TaskSource([FamilyConfig(name=family)], seed, 4).make(0, 0)


def scored(cases: Sequence[tuple[Task, str]]) -> list[Any]:
    async def play() -> list[Any]:
        scorer = FamilyScorer()
        try:
            asked = (scorer.score(task, answer) for task, answer in cases)
            return await asyncio.gather(*asked, return_exceptions=True)
        finally:
            await scorer.close()

    return asyncio.run(play())


def test_every_other_family_scores_in_the_sandbox_as_it_would_here_and_takes_no_junk() -> None:
    tasks = [made(family) for family in UNCHECKED]
    junk = [(task, one) for task in tasks for one in JUNK]
    said = scored([*((task, reference(task)) for task in tasks), *junk])
    found, junk_found = said[: len(tasks)], said[len(tasks) :]
    scorers: list[Any] = [reasoning_gym.get_score_answer_fn(task.family) for task in tasks]
    here = [
        scorer(reference(task).strip(), dict(task.payload))
        for scorer, task in zip(scorers, tasks, strict=True)
    ]
    assert found == [Scored(score >= 1.0) for score in here]
    right = {task.family for task, one in zip(tasks, found, strict=True) if one.correct}
    assert right == set(UNCHECKED) - WITHOUT_REFERENCE
    assert not any(one.correct for one in junk_found)


@pytest.mark.timeout(400)
def test_no_answer_is_executed_here_and_none_costs_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family_scorer, "_INSIDE", {**family_scorer._INSIDE, "answer_cpu_s": 1})
    file = tmp_path / "F"
    code = f"{OS}.system('touch {file}')"
    writes = [code, f"[{code}]", f"[[{code}], 1]", f"exec('open({str(file)!r}, \"w\")')"]
    cases = []
    for family in EVALUATING:
        task = made(family)
        slow = ["9**9**9**2"] if family in ("n_queens", "countdown", "simple_integration") else []
        cases += [(task, one) for one in (reference(task), *writes, *slow, reference(task))]
    started = time.monotonic()
    found = scored(cases)
    assert not file.exists()
    for (task, answer), one in zip(cases, found, strict=True):
        assert isinstance(one, Scored), (task.family, answer, one)
        assert one.correct == (answer == reference(task)), (task.family, answer, one)
    most_s = len(EVALUATING) * 2 * family_scorer.ANSWER_S + 3 * family_scorer.START_S
    assert time.monotonic() - started < most_s


def test_no_answer_costs_its_neighbours_anything() -> None:
    task = made("string_insertion")
    bad = [*ENDS_ITS_PROCESS, *SABOTAGE, *WAITS, *FORGED]
    found = scored([(task, one) for answer in bad for one in (answer, reference(task))])
    assert [one.correct for one in found[1::2]] == [True] * len(bad)
    said = dict(zip(bad, found[::2], strict=True))
    assert not any(one.correct for one in said.values())
    assert all(said[answer].fault for answer in ENDS_ITS_PROCESS)
    assert not any("no score within" in str(said[answer].fault) for answer in WAITS), said
    # A reply is a score between 0 and 1 or nothing, also after the right nonce.
    assert {said[answer].fault for answer in FORGED} == {"no score between 0 and 1"}


def test_an_answer_that_ends_the_whole_run_is_wrong_and_the_others_get_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No answer is known that ends a run behind the filter on system calls; so without it."""
    allows_all = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)
    monkeypatch.setattr(family_scorer, "computing", lambda machine: allows_all)
    task = made("n_queens")
    kills = f"[{OS}.kill({OS}.getppid(), 9)]"
    bad, good = scored([(task, one) for one in (kills, reference(task))])
    assert not bad.correct and "ended the sandbox" in str(bad.fault)
    assert good == Scored(True)


def test_an_answer_without_an_end_is_wrong_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = {**family_scorer._INSIDE, "answer_s": 3.0, "answer_cpu_s": 60}
    monkeypatch.setattr(family_scorer, "_INSIDE", inside)
    task = made("binary_matrix")
    endless, right = scored([(task, ENDLESS), (task, reference(task))])
    assert (endless, right) == (Scored(False, "no score within 3 s"), Scored(True))


def test_a_group_with_slow_answers_waits_for_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = {**family_scorer._INSIDE, "answer_s": 2.0, "answer_cpu_s": 1}
    monkeypatch.setattr(family_scorer, "_INSIDE", inside)
    monkeypatch.setattr(family_scorer, "SLOW_S", 0.9)
    monkeypatch.setattr(family_scorer, "MOST_ANSWERS", 2)
    slow, quick = made("binary_matrix"), made("n_queens")
    ended = []

    async def play() -> None:
        scorer = FamilyScorer()

        async def score(task: Task, answer: str) -> None:
            ended.append((task.family, (await scorer.score(task, answer)).correct))

        junk = (score(slow, ENDLESS) for _ in range(4))
        await asyncio.gather(*junk, *(score(quick, reference(quick)) for _ in range(2)))
        await scorer.close()

    asyncio.run(play())
    junk = [("binary_matrix", False)] * 2
    assert ended == [*junk, *[("n_queens", True)] * 2, *junk]


def test_a_task_whose_reference_cannot_be_scored_is_broken_and_spoils_no_other() -> None:
    good = made("countdown")
    empty: Mapping[str, Any] = {"answer": "2×2", "metadata": None}
    broken = Task("boxnet/0", "boxnet", "?", {**empty, "answer": "{}"})
    unknown = Task("none/0", "no_such_family", "?", empty)
    first, second, third = scored([(broken, "[]"), (unknown, "4"), (good, reference(good))])
    assert isinstance(first, BrokenTask) and "reference cannot be scored" in str(first)
    assert isinstance(second, BrokenTask) and "no_such_family" in str(second)
    assert third == Scored(True)


def test_a_failure_of_a_run_for_one_answer_is_that_answers_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, runs = made("n_queens"), list[str]()
    run, read = Sandbox.run, family_scorer.read

    async def failing(self: Sandbox, program: str) -> Outcome:
        runs.append(program)
        if len(runs) == 2:
            raise SandboxError("no process to spare")
        return await run(self, program)

    def cut_short(outcome: Outcome) -> Mapping[int, CaseReport]:
        """The first run ends over the second of four answers."""
        said = read(outcome)
        return {0: said[0], 1: CaseReport(None)} if len(runs) == 1 else said

    monkeypatch.setattr(Sandbox, "run", failing)
    monkeypatch.setattr(family_scorer, "read", cut_short)
    first, second, *others = scored([(task, reference(task))] * 4)
    assert first == Scored(True) and others == [Scored(True)] * 2
    assert isinstance(second, SandboxError) and len(runs) == 3


def test_a_caller_that_has_gone_is_not_waited_for_and_close_ends_the_rest() -> None:
    task = made("n_queens")

    async def play() -> list[Any]:
        scorer = FamilyScorer()
        first = asyncio.create_task(scorer.score(task, ENDLESS))
        gone = asyncio.create_task(scorer.score(task, reference(task)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(1)
        await scorer.close()
        return list(await asyncio.gather(first, gone, return_exceptions=True))

    assert all(isinstance(one, asyncio.CancelledError) for one in asyncio.run(play()))


def test_without_a_sandbox_nothing_is_scored_that_needs_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    task, checked = made("n_queens"), made("gcd")
    file = tmp_path / "F"
    none, right = scored([(task, f"[open({str(file)!r}, 'w')]"), (checked, reference(checked))])
    assert isinstance(none, SandboxError) and "bwrap" in str(none)
    assert right == Scored(True) and not file.exists()
    with pytest.raises(ConfigError, match=r"tasks.families: n_queens, countdown: .*apt install"):
        require(["gcd", "n_queens", "countdown", "n_queens"])
    require(CHECKED_FAMILIES)


def test_the_sandbox_has_all_that_reasoning_gym_requires() -> None:
    assert {"reasoning-gym", "sympy", "mpmath", "numpy", "zss"} <= set(distributions())
