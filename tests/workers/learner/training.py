"""A learner group's settings, and a step of it over trajectories with given advantages."""

import asyncio

from ray import ObjectRef

from orchestra_ray.config.enums import ZeroStage
from orchestra_ray.config.schema import Config
from orchestra_ray.core.records import Trajectory
from orchestra_ray.workers.learner.actor import LearnerGroup
from orchestra_ray.workers.learner.parts import TrainingSequence, part_of

LENGTHS = [44, 21, 9, 33, 58, 12, 27]
ADVANTAGES = [1.0, -1.0, (0.5, -0.5), 0.0, -2.0, (0.3, 0.9), 1.5]  # some of them one a turn
STEPS = 3


def make_config(stage: ZeroStage) -> Config:
    config = Config(name="learner")
    config.training.steps = STEPS
    config.model.dtype = "float32"
    learner = config.learner
    learner.zero_stage = stage
    learner.cpus_per_rank = 0.25
    learner.lr, learner.lr_warmup_steps, learner.lr_final = 1e-3, 4, 0.5
    learner.adam_eps = 1e-4  # large enough beside the gradients to be seen in the weights
    learner.grad_clip = 0.5
    learner.tokens_per_microbatch = 60  # two sequences or fewer, so several micro-batches a rank
    learner.start_deadline_s = learner.step_deadline_s = 120.0
    return config


def train(
    group: LearnerGroup, refs: list[ObjectRef], trajectories: list[Trajectory]
) -> dict[str, float]:
    """Every turn of an episode of several sequences is one of them."""
    sequences = []
    for ref, t, advantages in zip(refs, trajectories, advantages_by_turn(), strict=True):
        shares = [advantages] if len(t.starts) == 1 else [[one] for one in advantages]
        sequences += [
            TrainingSequence(ref, part, share, part_of(t, part).tokens_T.size, int(t.mask_T.sum()))
            for part, share in enumerate(shares)
        ]
    return asyncio.run(group.train(sequences))


def advantages_by_turn() -> list[list[float]]:
    return [list(one) if isinstance(one, tuple) else [one, one] for one in ADVANTAGES]
