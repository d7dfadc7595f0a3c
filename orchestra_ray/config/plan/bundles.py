"""The placement bundles of a run: the resources of each actor."""

from dataclasses import dataclass

from orchestra_ray.config.schema import Config


@dataclass(frozen=True, slots=True)
class Bundle:
    """`count` actors of one role with equal resources. `knob`: the key that sets the count."""

    role: str
    knob: str
    count: int
    cpus: float
    gpus: int

    @property
    def all_cpus(self) -> float:
        return self.count * self.cpus

    @property
    def all_gpus(self) -> int:
        return self.count * self.gpus


def bundles(config: Config) -> tuple[Bundle, ...]:
    """Returns the bundles of every role, GPU roles first."""
    learner, rollout, tools = config.learner, config.rollout, config.tools
    return (
        Bundle(
            "learner rank",
            "learner.ranks",
            learner.ranks,
            learner.cpus_per_rank,
            learner.gpus_per_rank,
        ),
        Bundle(
            "rollout worker",
            "rollout.workers",
            rollout.workers,
            rollout.cpus_per_worker,
            rollout.gpus_per_worker,
        ),
        Bundle("tool actor", "tools.actors", tools.actors, tools.cpus_per_actor, 0),
        Bundle("reward scorer", "reward.cpus", 1, config.reward.cpus, 0),
    )
