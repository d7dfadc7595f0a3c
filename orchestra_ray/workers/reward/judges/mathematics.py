"""Math: the same expression, set or interval, by math-verify in a process that can be killed.

What an answer states (`expressions.stated_expression`) is read as mathematics as a whole, or not at
all. Text that is the reference itself needs no reading.

A comparison that does not end, or takes too much memory, is the answer's own doing: it is wrong.
Where no process can be had at all there is a failure instead.
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
        self._one = asyncio.Lock()  # a comparison's deadline holds for it, not for its wait

    async def judge(self, task: Task, answer: str, caller: Caller) -> Verdict | Failure:
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
                said = (await self._tool.call(request)).text
            except ConfigError as error:
                return failed(NAME, str(error))
            except Fault as fault:
                return _of(fault)
        return Verdict(said == "equal", said)

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
