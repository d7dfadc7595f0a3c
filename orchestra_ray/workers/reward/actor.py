"""The reward scorer: one CPU actor that reads trajectories from the object store and scores them.

Groups are scored concurrently: while one waits for a judge, others proceed. A group that cannot be
scored is returned as a `GroupScore` with a failure, never raised as an exception.
"""

from collections.abc import Mapping
from dataclasses import replace

import ray
from ray.actor import ActorProxy

from orchestra_ray.core.bugs import bug
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.memory import peak_mib
from orchestra_ray.core.process_log import ProcessLog, own_log
from orchestra_ray.core.records import GroupScore, GroupSpec, Trajectory
from orchestra_ray.data.tasks.private import is_private
from orchestra_ray.spend.actor import SpendActor, SpendActorClient
from orchestra_ray.tracking.redact import Redactor, protect_logs
from orchestra_ray.workers.reward.judges.registry import (
    GraderInputs,
    GraderRegistry,
    describe_error,
)
from orchestra_ray.workers.reward.judges.verdict import Verdict
from orchestra_ray.workers.reward.score import score_group
from orchestra_ray.workers.reward.settings import RewardSettings


class RewardScorer:
    def __init__(
        self, inputs: GraderInputs | None = None, spend: ActorProxy[SpendActor] | None = None
    ):
        """Without `spend`, the spend actor, there is no LLM judge."""
        protect_logs(Redactor.of())
        inputs = inputs or GraderInputs()
        self._spend = None if spend is None else SpendActorClient(spend, inputs.count_calls)
        self._graders = GraderRegistry(inputs, self._spend)

    @ray.method
    async def score(
        self, settings: RewardSettings, group: GroupSpec, *trajectories_G: Trajectory
    ) -> GroupScore:
        """Scores a group. Ray resolves the references to trajectories in this process."""
        verdicts_G = await self._graders.verdicts(group, trajectories_G)
        if isinstance(verdicts_G, Failure):
            return GroupScore(group.group_id, (), False, verdicts_G)
        correct = {t.answer: v.correct for t, v in zip(trajectories_G, verdicts_G, strict=True)}
        try:
            score = score_group(group, trajectories_G, lambda _, a: correct[a], settings)
            return replace(score, unscorable=sum(v.unscorable for v in verdicts_G))
        except Exception as error:  # an internal bug costs one group, not the run
            kind, private = FailureKind.REWARD, is_private(group.task)
            what = describe_error(group.task, error)
            failure = bug(kind, "RewardScorer", error, private, what)
            return GroupScore(group.group_id, (), False, failure)

    @ray.method
    async def grade(self, group: GroupSpec, trajectory: Trajectory) -> Verdict | Failure:
        """Returns the verdict on one episode's answer."""
        verdicts = await self._graders.verdicts(group, [trajectory])
        return verdicts if isinstance(verdicts, Failure) else verdicts[0]

    @ray.method
    async def drain(self) -> int:
        """Waits until all costs of judges are recorded; returns the number of lost entries."""
        return 0 if self._spend is None else await self._spend.drain()

    @ray.method(max_task_retries=-1)  # after a crash, the restarted process answers
    async def process_log(self) -> ProcessLog:
        return own_log()

    @ray.method
    async def peak_mib(self) -> Mapping[str, float]:
        return {"scorer": peak_mib()}


RemoteRewardScorer = ray.remote(max_restarts=-1)(
    RewardScorer
)  # its only state, the verdicts, is also in the run's folder
