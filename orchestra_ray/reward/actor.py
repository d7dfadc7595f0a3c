"""The reward scorer: one CPU actor that reads trajectories from the object store and judges them.

A group that cannot be scored comes back as a `GroupScore` with a failure, never as an exception.
"""

from collections.abc import Mapping

import ray

from orchestra_ray.core.memory import peak_mib
from orchestra_ray.core.records import GroupScore, GroupSpec, Trajectory
from orchestra_ray.core.states import Failure, FailureKind
from orchestra_ray.reward.score import score_group
from orchestra_ray.reward.settings import RewardSettings
from orchestra_ray.tasks.reasoning_gym import is_correct


@ray.remote(max_restarts=-1)  # it keeps no state
class RewardScorer:
    def score(
        self, settings: RewardSettings, group: GroupSpec, *trajectories_G: Trajectory
    ) -> GroupScore:
        """References in, so that Ray reads the payloads here; a small record out."""
        try:
            return score_group(group, trajectories_G, is_correct, settings)
        except Exception as error:  # a scorer of any family may raise anything on any answer
            message = f"{group.task.task_id}: {type(error).__name__}: {error}"
            return GroupScore(
                group.group_id, (), False, Failure(FailureKind.REWARD, "RewardScorer", message)
            )

    def peak_mib(self) -> Mapping[str, float]:
        return {"scorer": peak_mib()}
