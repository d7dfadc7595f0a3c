"""Math: the same expression, set or interval, by math-verify in a process that can be killed.

A comparison that does not end, or takes too much memory, is the answer's own doing: it is wrong.
Where no process can be had at all there is a failure instead.
"""

import asyncio
import re

from orchestra_ray.catalogue.parsers import Parser, found
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Asker, Offer, Task, ToolRequest
from orchestra_ray.core.states import Failure
from orchestra_ray.reward.judges.exact import is_exact
from orchestra_ray.reward.judges.verdict import Verdict, failed
from orchestra_ray.tasks.reasoning_gym import reference
from orchestra_ray.tools.functions import FunctionLimits, FunctionTool
from orchestra_ray.tools.tool import Fault, FaultKind

NAME = "math"
FUNCTION = "orchestra_ray.reward.judges.equal:equal"
LIMITS = FunctionLimits(processes=1, deadline_s=20.0, start_s=60.0, memory_mib=2048)
MOST_CHARACTERS = 2_000  # of an expression, or of the end of the prose that it stands in
_TEXT = re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}")
_OFFER = Offer(NAME, NAME, "judge", "", Prices(), 0.0)


class MathJudge:
    def __init__(self) -> None:
        self._tool: FunctionTool | None = None
        self._one = asyncio.Lock()  # a comparison's deadline holds for it, not for its wait

    async def judge(self, task: Task, answer: str, asker: Asker) -> Verdict | Failure:
        right, boxed = reference(task), found(Parser.BOXED, answer)
        given = answer.strip()[-MOST_CHARACTERS:] if boxed is None else boxed
        if is_exact(_words(right), _words(given)):
            return Verdict(True, "the same text")
        if not given or len(given) > MOST_CHARACTERS:
            return Verdict(False, "too long for an expression" if given else "no expression")
        arguments = {"reference": right, "answer": given}
        request = ToolRequest(asker.episode_id, asker, _OFFER, arguments, task, 0, 0)
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
    return _TEXT.sub(r"\1", text).strip("$ .")
