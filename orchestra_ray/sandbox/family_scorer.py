"""The scorers of reasoning-gym's families: audited ones run here, all others in the sandbox.

An unaudited scorer may evaluate the answer, so the answer is untrusted code. Since importing
reasoning-gym takes seconds, the waiting answers share one run of the sandbox, which scores AT_ONCE
of them at a time, each in its own process (`scorer_program`). Without a sandbox, nothing is scored.

Limits of one answer: ANSWER_CPU_S of CPU time, ANSWER_S of wall time from the start of its process,
ANSWER_MEMORY_MIB of address space. Its process may only compute and read files: a call that sleeps,
waits or accesses another process fails immediately. A run starts no answer after RUN_S. If a run
ends early, each answer that was being scored is scored again in a run of its own; if that run ends
early too, the answer is wrong.

Groups (the answers to one task) with a slow answer are scored after all others, so that other
groups wait only for the current run. n answers that reach the CPU limit, with their references,
take about n x ANSWER_CPU_S divided by the processors (AT_ONCE at most), plus 2 s to start a run
every RUN_S.

Remaining risk: an answer that is evaluated shares a process with its scorer. It cannot change
another answer's score, but code written against its scorer, or code that finds the nonce of the
reply in its process, can forge a full score for itself.
"""

import asyncio
import base64
import json
import pickle
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.records import Task
from orchestra_ray.data.tasks.checked_families import CHECKED_FAMILIES, TAKES_JUNK
from orchestra_ray.data.tasks.reasoning_gym import reference, score_here
from orchestra_ray.data.tasks.scoring import BrokenTask, Scored, rejection_reason
from orchestra_ray.sandbox import scorer_program
from orchestra_ray.sandbox.command import SandboxError, SandboxLimits
from orchestra_ray.sandbox.run import Outcome, Sandbox, exit_text
from orchestra_ray.sandbox.seccomp import computing

AT_ONCE = 4
# In the installed release, right answers take at most 0.3 s; import and scoring, 250 MiB.
ANSWER_S, ANSWER_CPU_S, ANSWER_MEMORY_MIB = 6.0, 2, 384
RUN_S, START_S, SLOW_S = 20.0, 60.0, 1.0
MOST_ANSWERS, MOST_DATA_BYTES = 256, 16 * 2**20  # per run
LIMITS = SandboxLimits(
    wall_s=START_S + RUN_S + 2 * ANSWER_S,
    cpu_s=int(START_S),
    memory_mib=(AT_ONCE + 1) * ANSWER_MEMORY_MIB,
    stdout_bytes=2**20,
)
_DISTRIBUTION = "reasoning-gym"
_NAME = re.compile(r"[\w.-]+")
_PROGRAM = Path(scorer_program.__file__).read_text()
_INSIDE: Mapping[str, object] = {
    "at_once": AT_ONCE,
    "answer_s": ANSWER_S,
    "answer_cpu_s": ANSWER_CPU_S,
    "answer_memory_mib": ANSWER_MEMORY_MIB,
    "run_s": RUN_S,
    "start_s": START_S,
}


def require(families: Iterable[str]) -> None:
    """Raises `ConfigError` if a scorer accepts junk, or needs a sandbox that is unavailable.

    Creates the sandbox's copy of reasoning-gym, which takes seconds the first time.
    """
    families = list(dict.fromkeys(families))
    for name in families:
        if (junk := TAKES_JUNK.get(name)) is not None:
            what = f"its scorer accepts {junk} as right; leave it out"
            raise ConfigError(f"tasks.families: {name}: {what}")
    unchecked = [name for name in families if name not in CHECKED_FAMILIES]
    if not unchecked:
        return
    try:
        Sandbox(LIMITS, distributions())
    except SandboxError as error:
        names = ", ".join(unchecked)
        raise ConfigError(f"tasks.families: {names}: scored in the sandbox only: {error}") from None


@dataclass(eq=False, slots=True)
class _Case:
    group: str
    data: bytes  # (family, entry, answer, reference), pickled
    scored: asyncio.Future[Scored]


@dataclass(frozen=True, slots=True)
class CaseReport:
    """A run's result for a case. `result` is None if the run ended before the case did."""

    result: Scored | BrokenTask | None
    wall_s: float = 0.0


class FamilyScorer:
    """Scores answers, for one event loop; concurrent requests share a run of the sandbox."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")
        self._sandbox: Sandbox | None = None
        self._waiting: list[_Case] = []  # in order of arrival
        self._slow: set[str] = set()  # groups of waiting answers
        self._running: asyncio.Task[None] | None = None

    async def score(self, task: Task, answer: str) -> Scored:
        """Scores an answer; raises `SandboxError`, or `BrokenTask` if the reference fails too."""
        if task.family in CHECKED_FAMILIES:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, score_here, task, answer)
        answer, right = answer.strip(), reference(task).strip()
        if (why := rejection_reason(answer, right)) is not None:
            return Scored(False, why)
        data = pickle.dumps((task.family, dict(task.payload), answer, right))
        case = _Case(task.task_id, data, asyncio.get_running_loop().create_future())
        self._waiting.append(case)
        if self._running is None:
            self._running = asyncio.create_task(self._run_all())
        return await case.scored

    async def close(self) -> None:
        """Ends the current run; waiting callers get a `CancelledError`."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])
        for case in self._waiting:
            case.scored.cancel()
        if self._sandbox is not None:
            await self._sandbox.close()

    async def _run_all(self) -> None:
        cases: list[_Case] = []
        try:
            while cases := self._take():
                try:
                    await self._run(cases)
                except Exception as error:  # a failed run fails all its cases
                    for case in cases:
                        _set_result(case, error)
        finally:  # if cancelled, callers would wait for the cases of the run
            self._running = None
            for case in cases:
                case.scored.cancel()

    def _take(self) -> list[_Case]:
        """Removes and returns the cases of the next run; drops those whose caller was cancelled."""
        waiting = [case for case in self._waiting if not case.scored.done()]
        self._slow &= {case.group for case in waiting}
        size_bytes, taken = 0, list[_Case]()
        for case in sorted(waiting, key=lambda case: case.group in self._slow)[:MOST_ANSWERS]:
            size_bytes += len(case.data)
            if taken and size_bytes > MOST_DATA_BYTES:
                break
            taken.append(case)
        self._waiting = [case for case in waiting if case not in taken]
        return taken

    async def _run(self, cases: Sequence[_Case]) -> None:
        """Scores at least the first case; cases not reached wait for the next run."""
        sandbox = await self._started()
        outcome = await sandbox.run(program([case.data for case in cases]))
        reports = read(outcome)
        if not reports:
            raise SandboxError(f"sandbox: the scorer did not start: {_failure_line(outcome)}")
        self._slow |= {cases[n].group for n, one in reports.items() if one.wall_s > SLOW_S}
        self._waiting[:0] = [case for n, case in enumerate(cases) if n not in reports]
        for n, one in reports.items():
            if one.result is not None:
                _set_result(cases[n], one.result)
            elif len(cases) == 1:
                _set_result(cases[n], Scored(False, f"it ended the sandbox ({_end_of(outcome)})"))
        for n, one in reports.items():
            if one.result is None and len(cases) > 1:
                await self._run_alone(cases[n])

    async def _run_alone(self, case: _Case) -> None:
        try:
            await self._run([case])
        except Exception as error:  # concerns only this case
            _set_result(case, error)

    async def _started(self) -> Sandbox:
        if self._sandbox is None:  # in a thread, since the probe blocks
            self._sandbox = await asyncio.to_thread(Sandbox, LIMITS, distributions())
        return self._sandbox


def _set_result(case: _Case, result: Scored | Exception) -> None:
    if case.scored.done():  # the caller was cancelled
        return
    if isinstance(result, Scored):
        case.scored.set_result(result)
    else:
        case.scored.set_exception(result)


def program(cases: Sequence[bytes]) -> str:
    """Returns the program for the sandbox. Only data pickled here are unpickled there."""
    data = base64.b64encode(pickle.dumps(list(cases))).decode()
    inside = {**_INSIDE, "system_calls": computing(platform.machine())}
    return f"{_PROGRAM}\n\nmain({data!r}, {inside!r})\n"


def read(outcome: Outcome) -> dict[int, CaseReport]:
    """Parses the output of a run: the reports of the cases that it reached, by number."""
    reports: dict[int, CaseReport] = {}
    for line in outcome.stdout.text.splitlines():
        match json.loads(line):
            case [int(n), "starts"]:
                reports[n] = CaseReport(None)
            case [int(n), "ends", score, None, None, wall_s]:
                reports[n] = CaseReport(Scored(score >= 1.0), wall_s)
            case [int(n), "ends", None, str(fault), None, wall_s]:
                reports[n] = CaseReport(Scored(False, fault), wall_s)
            case [int(n), "ends", None, str(), str(broken), wall_s]:
                reports[n] = CaseReport(
                    BrokenTask(f"its reference cannot be scored: {broken}"), wall_s
                )
    return reports


def _end_of(outcome: Outcome) -> str:
    code = outcome.exit_code
    return str(outcome.limit) if code is None else exit_text(code)


def _failure_line(outcome: Outcome) -> str:
    last = outcome.stderr.text.strip().rpartition("\n")[2]
    return f"{_end_of(outcome)}: {last}" if last else _end_of(outcome)


@cache
def distributions() -> tuple[str, ...]:
    """Returns reasoning-gym and its installed dependencies."""
    found: set[str] = set()
    waiting = [_DISTRIBUTION]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:  # for another platform or Python version
            continue
        found.add(name)
        waiting += [_NAME.match(one)[0] for one in requires if "extra ==" not in one]  # type: ignore[index]
    return tuple(sorted(found))
