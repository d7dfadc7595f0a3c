"""Training sequences of a trajectory.

Under the context policy `transcript` a trajectory is one sequence; under `rebuild` each turn is
one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestra_ray.core.records import Trajectory


@dataclass(frozen=True, slots=True)
class TrainingSequence:
    """Sequence `part` of the trajectory behind `ref`, with an advantage for each of its turns.

    tokens: length of the sequence. episode_tokens: response tokens of its episode, over all
    trained sequences.
    """

    ref: Any  # a Ray reference
    part: int
    advantages: Sequence[float]
    tokens: int
    episode_tokens: int


def part_of(trajectory: Trajectory, index: int) -> Trajectory:
    """Returns sequence `index` with its turns; the arrays are views of the trajectory's."""
    if len(trajectory.starts) == 1:
        return trajectory
    ends = (*trajectory.starts[1:], trajectory.tokens_T.size)
    start, end = trajectory.starts[index], ends[index]
    return replace(
        trajectory,
        tokens_T=trajectory.tokens_T[start:end],
        mask_T=trajectory.mask_T[start:end],
        logprobs_T=trajectory.logprobs_T[start:end],
        versions_T=trajectory.versions_T[start:end],
        turns=tuple(
            replace(turn, start=turn.start - start, end=turn.end - start)
            for turn in trajectory.turns
            if start <= turn.start < end
        ),
        starts=(0,),
    )
