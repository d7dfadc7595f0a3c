"""The scorers of reasoning-gym's families: those that are checked here, all others in the sandbox.

A scorer that is not checked may evaluate the answer, so an answer may do anything. Importing
reasoning-gym takes seconds; therefore the answers that are waiting share one run of the sandbox,
which scores AT_ONCE of them at a time, each in a process of its own (`scorer_program`).

Bounds for one answer: ANSWER_CPU_S of processor time, ANSWER_S of wall time from the start of its
process, ANSWER_MEMORY_MIB of address space. It can only compute and read files: a call that sleeps,
waits, or reaches another process fails at once. A run takes no new answer after RUN_S. If a run
ends early, each answer that was being scored is scored once more in a run of its own; one that ends
that run as well is wrong. Where there is no sandbox nothing is scored.

Groups (the answers to one task) with a slow answer are scored after all others, so an honest
group waits for the current run, not for a queue of slow answers. The slowest answers compute until
their limit: n of them, with their references scored too, take about n x ANSWER_CPU_S divided by the
processors that there are, AT_ONCE at most, and 2 s to start a run every RUN_S.

As with programs and their tests, an answer that evaluates shares a process with its own scorer. It
cannot reach another answer's score, but one that is written to deceive its own scorer, or to search
its process for the word before the score, can forge a full score for itself.
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
from orchestra_ray.data.tasks.scoring import BrokenTask, Scored, refused
from orchestra_ray.sandbox import scorer_program
from orchestra_ray.sandbox.command import Limits, SandboxError
from orchestra_ray.sandbox.run import Outcome, Sandbox, exit_words
from orchestra_ray.sandbox.seccomp import computing

AT_ONCE = 4
# Right answers of the installed release take at most 0.3 s; importing and scoring, 250 MiB.
ANSWER_S, ANSWER_CPU_S, ANSWER_MEMORY_MIB = 6.0, 2, 384
RUN_S, START_S, SLOW_S = 20.0, 60.0, 1.0
MOST_ANSWERS, MOST_DATA_BYTES = 256, 16 * 2**20  # of one run
LIMITS = Limits(
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
    """`ConfigError` if a scorer takes junk for right, or needs the sandbox and there is none.

    Makes the copy of reasoning-gym for the sandbox, which takes seconds the first time.
    """
    families = list(dict.fromkeys(families))
    for name in families:
        if (junk := TAKES_JUNK.get(name)) is not None:
            what = f"its scorer takes {junk} for right; leave it out"
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
class Said:
    """What a run said of a case. `result` is None if the run ended before the case did."""

    result: Scored | BrokenTask | None
    wall_s: float = 0.0


class FamilyScorer:
    """On one event loop. Answers that are asked for together are scored in one run."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scorer")
        self._sandbox: Sandbox | None = None
        self._waiting: list[_Case] = []  # in order of arrival
        self._slow: set[str] = set()  # groups with answers that wait
        self._running: asyncio.Task[None] | None = None

    async def score(self, task: Task, answer: str) -> Scored:
        """May raise `SandboxError`, and `BrokenTask` if the reference cannot be scored either."""
        if task.family in CHECKED_FAMILIES:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, score_here, task, answer)
        answer, right = answer.strip(), reference(task).strip()
        if (why := refused(answer, right)) is not None:
            return Scored(False, why)
        data = pickle.dumps((task.family, dict(task.payload), answer, right))
        case = _Case(task.task_id, data, asyncio.get_running_loop().create_future())
        self._waiting.append(case)
        if self._running is None:
            self._running = asyncio.create_task(self._run_all())
        return await case.scored

    async def close(self) -> None:
        """Ends what is running; those who wait get a `CancelledError`."""
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
                except Exception as error:  # of a run, for all that are in it
                    for case in cases:
                        _settle(case, error)
        finally:  # cancelled, the cases of a run would be waited for
            self._running = None
            for case in cases:
                case.scored.cancel()

    def _take(self) -> list[_Case]:
        """The cases of one run; those whose caller has gone are dropped."""
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
        """Scores at least the first case; those that were not reached wait for the next run."""
        sandbox = await self._started()
        outcome = await sandbox.run(program([case.data for case in cases]))
        said = read(outcome)
        if not said:
            raise SandboxError(f"sandbox: no scorer came up there: {_why(outcome)}")
        self._slow |= {cases[n].group for n, one in said.items() if one.wall_s > SLOW_S}
        self._waiting[:0] = [case for n, case in enumerate(cases) if n not in said]
        for n, one in said.items():
            if one.result is not None:
                _settle(cases[n], one.result)
            elif len(cases) == 1:
                _settle(cases[n], Scored(False, f"it ended the sandbox ({_ending(outcome)})"))
        for n, one in said.items():
            if one.result is None and len(cases) > 1:
                await self._run_alone(cases[n])

    async def _run_alone(self, case: _Case) -> None:
        try:
            await self._run([case])
        except Exception as error:  # of this one only: the others have their results, or wait
            _settle(case, error)

    async def _started(self) -> Sandbox:
        if self._sandbox is None:  # its probe blocks
            self._sandbox = await asyncio.to_thread(Sandbox, LIMITS, distributions())
        return self._sandbox


def _settle(case: _Case, said: Scored | Exception) -> None:
    if case.scored.done():  # its caller has gone
        return
    if isinstance(said, Scored):
        case.scored.set_result(said)
    else:
        case.scored.set_exception(said)


def program(cases: Sequence[bytes]) -> str:
    """One program for the sandbox. The data are ours, and are unpickled in there only."""
    data = base64.b64encode(pickle.dumps(list(cases))).decode()
    inside = {**_INSIDE, "system_calls": computing(platform.machine())}
    return f"{_PROGRAM}\n\nmain({data!r}, {inside!r})\n"


def read(outcome: Outcome) -> dict[int, Said]:
    """What a run said, by the number of the case; nothing of those that were not reached."""
    said: dict[int, Said] = {}
    for line in outcome.stdout.text.splitlines():
        match json.loads(line):
            case [int(n), "starts"]:
                said[n] = Said(None)
            case [int(n), "ends", score, None, None, wall_s]:
                said[n] = Said(Scored(score >= 1.0), wall_s)
            case [int(n), "ends", None, str(fault), None, wall_s]:
                said[n] = Said(Scored(False, fault), wall_s)
            case [int(n), "ends", None, str(), str(broken), wall_s]:
                said[n] = Said(BrokenTask(f"its reference cannot be scored: {broken}"), wall_s)
    return said


def _ending(outcome: Outcome) -> str:
    code = outcome.exit_code
    return str(outcome.limit) if code is None else exit_words(code)


def _why(outcome: Outcome) -> str:
    last = outcome.stderr.text.strip().rpartition("\n")[2]
    return f"{_ending(outcome)}: {last}" if last else _ending(outcome)


@cache
def distributions() -> tuple[str, ...]:
    """reasoning-gym and all that it requires, as far as it is installed here."""
    found: set[str] = set()
    waiting = [_DISTRIBUTION]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:  # of another platform or Python
            continue
        found.add(name)
        waiting += [_NAME.match(one)[0] for one in requires if "extra ==" not in one]  # type: ignore[index]
    return tuple(sorted(found))
