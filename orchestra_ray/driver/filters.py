"""Which episodes of a scored group are trained, and the terminal state of those that are not.

The three filters of the paper (section 4.4): homogeneous groups, episodes without an answer, and
episodes in which no turn kept the format; where it is asked for, those that a token limit cut short
as well. Filtered episodes still count in their group's mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestra_ray.config.schema import Overlong
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import EpisodeScore, EpisodeSummary, GroupScore, GroupSpec
from orchestra_ray.core.states import Ended, Stop


@dataclass(frozen=True, slots=True)
class Rollout:
    """An episode that came back: its card and the reference to its trajectory."""

    summary: EpisodeSummary
    ref: Any


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """What the loop holds of a group. `rollouts` and `score.episodes` are in one order."""

    spec: GroupSpec
    worker: int
    rollouts: tuple[Rollout, ...]
    failed: Mapping[str, Failure]
    score: GroupScore
    score_s: float

    def pairs(self) -> list[tuple[Rollout, EpisodeScore]]:
        return list(zip(self.rollouts, self.score.episodes, strict=True))


@dataclass(frozen=True, slots=True)
class TrainableEpisode:
    """An episode to train: its advantages, one a turn, and its sequences that kept the format."""

    rollout: Rollout
    advantages: tuple[float, ...]
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FilteredGroup:
    """What to train of each episode, and the states of the episodes that are not trained."""

    trained: tuple["TrainableEpisode", ...]
    dropped: Mapping[str, Ended]


def filter_group(
    group: ScoredGroup, stale_before: int, overlong: Overlong = Overlong.FILTER
) -> FilteredGroup:
    """Applies staleness and the filters; `stale_before` is the oldest version still allowed."""
    dropped = {
        episode_id: Ended.failed(failure.kind) for episode_id, failure in group.failed.items()
    }
    if group.score.failure is not None:
        state = Ended.failed(group.score.failure.kind)
        dropped |= {rollout.summary.episode_id: state for rollout in group.rollouts}
        return FilteredGroup((), dropped)
    trained: list[TrainableEpisode] = []
    for rollout, score in group.pairs():
        state = _reason_to_drop(rollout.summary, group.score.keep, stale_before, overlong)
        if state is None:
            advantages = score.turn_advantages or (score.advantage,) * rollout.summary.turns
            trained.append(TrainableEpisode(rollout, advantages, _parts_to_train(rollout.summary)))
        else:
            dropped[rollout.summary.episode_id] = state
    return FilteredGroup(tuple(trained), dropped)


def _parts_to_train(summary: EpisodeSummary) -> tuple[int, ...]:
    """Those that kept the format; and the one that a limit cut, for which it could not."""
    last = len(summary.parts) - 1 if summary.stop is Stop.LENGTH else None
    return tuple(n for n, part in enumerate(summary.parts) if part.format_ok or n == last)


def _reason_to_drop(
    summary: EpisodeSummary, keep_group: bool, stale_before: int, overlong: Overlong
) -> Ended | None:
    if summary.turns == 0:
        return Ended.INVALID  # its prompt was over the limit: nothing was sampled
    if summary.version_min < stale_before:
        return Ended.STALE
    if not keep_group:
        return Ended.HOMOGENEOUS
    if summary.stop is Stop.LENGTH:
        return Ended.OVERLONG if overlong is Overlong.FILTER else None
    if summary.turns_well_formed == 0:
        return Ended.FORMAT
    if not summary.answered:
        return Ended.INVALID
    return None
