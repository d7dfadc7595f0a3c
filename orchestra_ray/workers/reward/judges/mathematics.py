"""Grader of mathematics: equal expressions, sets or intervals, by math-verify in a process.

The stated expression (`expressions.stated_expression`) is parsed as a whole, or not at all. Text
equal to the reference needs no parsing.

A comparison that exceeds its deadline or memory limit makes the answer wrong, as the answer causes
it. If no process can be started, grading fails.
"""

import asyncio
import re

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Failure, Fault, FaultKind
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Caller, Task, ToolOption, ToolRequest
from orchestra_ray.data.tasks.reasoning_gym import reference
from orchestra_ray.workers.reward.judges.exact import is_exact
from orchestra_ray.workers.reward.judges.expressions import stated_expression
from orchestra_ray.workers.reward.judges.latex import MOST_CHARACTERS
from orchestra_ray.workers.reward.judges.verdict import Verdict, failed
from orchestra_ray.workers.tools.builtin.function import FunctionLimits, FunctionTool

NAME = "math"
FUNCTION = "orchestra_ray.workers.reward.judges.equal:equal"
LIMITS = FunctionLimits(processes=1, deadline_s=20.0, start_s=60.0, memory_mib=2048)
_TEXT = re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}")
_LETTER = re.compile(r"\([A-Za-z]\)")
_OPTION = ToolOption(NAME, NAME, "judge", "", Prices(), 0.0)


class MathGrader:
    def __init__(self) -> None:
        self._tool: FunctionTool | None = None
        self._one = asyncio.Lock()  # so that waiting does not count towards a deadline

    async def grade(self, task: Task, answer: str, caller: Caller) -> Verdict | Failure:
        right, given = reference(task), stated_expression(answer)
        if given is None:
            return Verdict(False, "no expression")
        if is_exact(_words(right), _words(given)):
            return Verdict(True, "the same text")
        if len(given) > MOST_CHARACTERS:
            return Verdict(False, "too long for an expression")
        arguments = {"reference": right, "answer": given}
        request = ToolRequest(caller.episode_id, caller, _OPTION, arguments, task, 0, 0)
        async with self._one:
            try:
                if self._tool is None:
                    self._tool = await asyncio.to_thread(FunctionTool, FUNCTION, LIMITS)
                result = (await self._tool.call(request)).text
            except ConfigError as error:
                return failed(NAME, str(error))
            except Fault as fault:
                return _of(fault)
        return Verdict(result == "equal", result)

    async def close(self) -> None:
        if self._tool is not None:
            await self._tool.close()


def _of(fault: Fault) -> Verdict | Failure:
    match fault.kind:
        case FaultKind.TIMEOUT:
            return Verdict(False, f"no comparison within {LIMITS.deadline_s:g} s")
        case FaultKind.SERVER_ERROR:
            return Verdict(False, "the comparison broke")
        case _:
            return failed(NAME, str(fault))


def _words(text: str) -> str:
    bare = _TEXT.sub(r"\1", text).strip("$ ")
    bare = bare if bare.endswith("..") else bare.removesuffix(".")
    return bare[1:-1] if _LETTER.fullmatch(bare) else bare
