"""Code: the answer is a program, and the task's tests run after it in the sandbox.

A program that fails a test, or that a limit ends, is wrong. Where there is no sandbox nothing is
run, and the judge fails.

After the tests a word is printed that is new in each run, so a program that exits early or prints
what it likes has not passed. It shares a process with its tests: one that is written to look for
the word in there could pass unearned.
"""

import asyncio
import secrets

from orchestra_ray.catalogue.parsers import Parser, parse
from orchestra_ray.core.records import Asker, Task
from orchestra_ray.core.states import Failure
from orchestra_ray.reward.judges.verdict import Verdict, failed
from orchestra_ray.tools.code import MAX_PROGRAM_BYTES
from orchestra_ray.tools.sandbox import Sandbox
from orchestra_ray.tools.sandbox_setup import Limits, SandboxError

NAME = "code"
LIMITS = Limits()
AT_ONCE = 2  # programs, each with a processor of its own
_PROGRAM = """\
import sys
_space = {{"__name__": "answer"}}
exec(compile({program!r}, "answer.py", "exec"), _space)
exec(compile({tests!r}, "tests.py", "exec"), _space)
sys.__stderr__.write({word!r})
"""


class CodeJudge:
    def __init__(self) -> None:
        self._sandbox: Sandbox | None = None
        self._starting = asyncio.Lock()
        self._room = asyncio.Semaphore(AT_ONCE)

    async def judge(self, task: Task, answer: str, asker: Asker) -> Verdict | Failure:
        program = parse(Parser.CODE, answer)
        whole = with_tests(program, str(task.payload["tests"]), word := secrets.token_hex(16))
        if len(whole.encode()) > MAX_PROGRAM_BYTES:
            return Verdict(False, f"longer than {MAX_PROGRAM_BYTES} bytes")
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
    return _PROGRAM.format(program=program, tests=tests, word=word)
