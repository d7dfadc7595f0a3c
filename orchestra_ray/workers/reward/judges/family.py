"""Grader of reasoning-gym tasks, by the scorer of the task's family.

An answer that the scorer cannot score is wrong, and counted as unscorable. The result is a failure
if a scorer needs a sandbox and there is none, or if it cannot score the reference.
"""

from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import Caller, Task
from orchestra_ray.data.tasks.scoring import BrokenTask
from orchestra_ray.data.tasks.source import OWN_SCORER
from orchestra_ray.sandbox.command import SandboxError
from orchestra_ray.sandbox.family_scorer import FamilyScorer
from orchestra_ray.workers.reward.judges.verdict import Verdict, failed


class FamilyGrader:
    def __init__(self) -> None:
        self._scorer = FamilyScorer()

    async def grade(self, task: Task, answer: str, caller: Caller) -> Verdict | Failure:
        try:
            scored = await self._scorer.score(task, answer)
        except (BrokenTask, SandboxError) as error:
            return failed(OWN_SCORER, str(error))
        if scored.fault is not None:
            return Verdict(False, scored.fault, unscorable=True)
        return Verdict(scored.correct, "matches" if scored.correct else "does not match")

    async def close(self) -> None:
        await self._scorer.close()
