"""Code: the answer is a program, and the task's tests run after it in the sandbox.

The answer is imported as the module `answer`, so what it does only as a program of its own (under
`if __name__ == "__main__"`) is not done. The tests run in its namespace as `__main__`: they see all
its names, and what they do under such a condition is done. A program that fails a test, or that a
limit ends, is wrong. Where there is no sandbox nothing is run, and the judge fails.

After the tests a word is printed that is new in each run, so a program that exits early or prints
what it likes has not passed. It shares a process with its tests: one that is written to look for
the word in there could pass unearned.
"""

import asyncio
import secrets

from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import Caller, Task
from orchestra_ray.data.catalogue.parsers import Parser, parse
from orchestra_ray.sandbox.command import Limits, SandboxError
from orchestra_ray.sandbox.run import Sandbox, source_bytes
from orchestra_ray.workers.reward.judges.verdict import Verdict, failed
from orchestra_ray.workers.tools.builtin.python import MAX_PROGRAM_BYTES

NAME = "code"
LIMITS = Limits()
AT_ONCE = 2  # programs, each with a processor of its own
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

    async def judge(self, task: Task, answer: str, caller: Caller) -> Verdict | Failure:
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
            if self._sandbox is None:  # its probe blocks
                self._sandbox = await asyncio.to_thread(Sandbox, LIMITS)
            return self._sandbox


def with_tests(program: str, tests: str, word: str) -> str:
    """One program: the answer, then its tests, then `word`."""
    return _PROGRAM.format(program=source_bytes(program), tests=source_bytes(tests), word=word)
