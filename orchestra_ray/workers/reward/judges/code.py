"""Grader of code: the answer is a program, run in the sandbox followed by the task's tests.

The answer is imported as the module `answer`, so its code under `if __name__ == "__main__"` does
not run. The tests run in its namespace as `__main__`: they see all its names, and their code under
that condition runs. A program that fails a test or exceeds a limit is wrong. Without a sandbox
nothing is run and grading fails.

After the tests a random word is printed, different in each run, so that a program which exits early
or prints arbitrary text does not pass. Program and tests share a process: a program written to
search it for the word could pass without being correct.
"""

import asyncio
import secrets

from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import Caller, Task
from orchestra_ray.data.catalogue.parsers import Parser, parse
from orchestra_ray.sandbox.command import SandboxError, SandboxLimits
from orchestra_ray.sandbox.run import Sandbox, source_bytes
from orchestra_ray.workers.reward.judges.verdict import Verdict, failed
from orchestra_ray.workers.tools.builtin.python import MAX_PROGRAM_BYTES

NAME = "code"
LIMITS = SandboxLimits()
AT_ONCE = 2  # programs, one CPU core each
_PROGRAM = """\
import sys
with open("answer.py", "wb") as file:
    file.write({program!r})
with open("tests.py", "wb") as file:
    file.write({tests!r})
sys.setrecursionlimit(sys.getrecursionlimit() + 20)  # for the frames of this file and of import
import answer
answer.__name__, sys.modules["__main__"] = "__main__", answer
with open("tests.py", "rb") as file:
    exec(compile(file.read(), "tests.py", "exec", dont_inherit=True), vars(answer))
sys.__stderr__.write({word!r})
"""


class CodeGrader:
    def __init__(self) -> None:
        self._sandbox: Sandbox | None = None
        self._starting = asyncio.Lock()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def grade(self, task: Task, answer: str, caller: Caller) -> Verdict | Failure:
        program = parse(Parser.CODE, answer)
        if len(program.encode(errors="replace")) > MAX_PROGRAM_BYTES:
            return Verdict(False, f"longer than {MAX_PROGRAM_BYTES} bytes")
        whole = with_tests(program, str(task.payload["tests"]), word := secrets.token_hex(16))
        try:
            async with self._room:
                outcome = await (await self._started()).run(whole)
        except SandboxError as error:
            return failed(NAME, str(error))
        if outcome.limit is not None:
            return Verdict(False, f"ended by its limit of {outcome.limit.value}")
        passed = outcome.exit_code == 0 and word in outcome.stderr.text
        return Verdict(passed, "passes the tests" if passed else "fails the tests")

    async def close(self) -> None:
        if self._sandbox is not None:
            await self._sandbox.close()

    async def _started(self) -> Sandbox:
        async with self._starting:
            if self._sandbox is None:  # in a thread, as its probe blocks
                self._sandbox = await asyncio.to_thread(Sandbox, LIMITS)
            return self._sandbox


def with_tests(program: str, tests: str, word: str) -> str:
    """Returns a program that runs the answer, then its tests, then prints `word`."""
    return _PROGRAM.format(program=source_bytes(program), tests=source_bytes(tests), word=word)
