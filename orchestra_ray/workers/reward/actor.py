"""The reward scorer: one CPU actor that reads trajectories from the object store and judges them.

Groups are scored side by side: while one waits for a judge, others go on. A group that cannot be
scored comes back as a `GroupScore` with a failure, never as an exception.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import ray

from orchestra_ray.core.bugs import bug
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.memory import peak_mib
from orchestra_ray.core.process_log import ProcessLog, own_log
from orchestra_ray.core.records import GroupScore, GroupSpec, Trajectory
from orchestra_ray.data.tasks.private import is_private
from orchestra_ray.tracking.redact import Redactor, protect_logs
from orchestra_ray.workers.reward.judges.registry import GraderInputs, GraderRegistry, described
from orchestra_ray.workers.reward.judges.verdict import Verdict
from orchestra_ray.workers.reward.score import score_group
from orchestra_ray.workers.reward.settings import RewardSettings
from orchestra_ray.workers.tools.actor import SpendActorClient


@ray.remote(max_restarts=-1)  # all it keeps are verdicts, which are in the run's folder too
class RewardScorer:
    def __init__(self, judging: GraderInputs | None = None, books: Any = None):
        """Without `books`, the actor that holds them, there is no LLM judge."""
        protect_logs(Redactor.of())
        judging = judging or GraderInputs()
        self._books = None if books is None else SpendActorClient(books, judging.count_calls)
        self._graders = GraderRegistry(judging, self._books)

    async def score(
        self, settings: RewardSettings, group: GroupSpec, *trajectories_G: Trajectory
    ) -> GroupScore:
        """References in, so that Ray reads the payloads here; a small record out."""
        verdicts_G = await self._graders.verdicts(group, trajectories_G)
        if isinstance(verdicts_G, Failure):
            return GroupScore(group.group_id, (), False, verdicts_G)
        correct = {t.answer: v.correct for t, v in zip(trajectories_G, verdicts_G, strict=True)}
        try:
            score = score_group(group, trajectories_G, lambda _, a: correct[a], settings)
            return replace(score, unscorable=sum(v.unscorable for v in verdicts_G))
        except Exception as error:  # a bug of ours costs one group, not the run
            kind, private = FailureKind.REWARD, is_private(group.task)
            what = described(group.task, error)
            failure = bug(kind, "RewardScorer", error, private, what)
            return GroupScore(group.group_id, (), False, failure)

    async def judge(self, group: GroupSpec, trajectory: Trajectory) -> Verdict | Failure:
        """Whether one episode's answer is right."""
        verdicts = await self._graders.verdicts(group, [trajectory])
        return verdicts if isinstance(verdicts, Failure) else verdicts[0]

    async def drain(self) -> int:
        """Returns once what judges cost is in the books; how many entries never came there."""
        return 0 if self._books is None else await self._books.drain()

    @ray.method(max_task_retries=-1)  # asked after a death, of the process that comes next
    async def process_log(self) -> ProcessLog:
        return own_log()

    async def peak_mib(self) -> Mapping[str, float]:
        return {"scorer": peak_mib()}
