"""Divides a scored group into trainable episodes and dropped ones with their terminal states.

The three filters of the paper (section 4.4): homogeneous groups, episodes without an answer, and
episodes without a well-formed turn; optionally, episodes that a token limit truncated. Dropped
episodes still count in the mean reward of their group, from which advantages are computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestra_ray.config.enums import Overlong
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import EpisodeScore, EpisodeSummary, GroupScore, GroupSpec
from orchestra_ray.core.states import Ended, Stop


@dataclass(frozen=True, slots=True)
class Rollout:
    """An episode that did not fail: its summary and the reference to its trajectory."""

    summary: EpisodeSummary
    ref: Any


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A group after scoring. `rollouts` and `score.episodes` are in the same order."""

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
    """An episode to train: an advantage per turn, and the indices of the sequences to train."""

    rollout: Rollout
    advantages: tuple[float, ...]
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FilteredGroup:
    """The episodes of a group to train, and the terminal states of all others by episode id."""

    trainable: tuple[TrainableEpisode, ...]
    dropped: Mapping[str, Ended]


def filter_group(
    group: ScoredGroup, stale_before: int, overlong: Overlong = Overlong.FILTER
) -> FilteredGroup:
    """Applies the filters. `stale_before` is the oldest weight version that may be trained."""
    dropped = {
        episode_id: Ended.failed(failure.kind) for episode_id, failure in group.failed.items()
    }
    if group.score.failure is not None:
        state = Ended.failed(group.score.failure.kind)
        dropped |= {rollout.summary.episode_id: state for rollout in group.rollouts}
        return FilteredGroup((), dropped)
    trainable: list[TrainableEpisode] = []
    for rollout, score in group.pairs():
        state = _reason_to_drop(rollout.summary, group.score.keep, stale_before, overlong)
        if state is None:
            advantages = score.turn_advantages or (score.advantage,) * rollout.summary.turns
            parts = _parts_to_train(rollout.summary)
            trainable.append(TrainableEpisode(rollout, advantages, parts))
        else:
            dropped[rollout.summary.episode_id] = state
    return FilteredGroup(tuple(trainable), dropped)


def _parts_to_train(summary: EpisodeSummary) -> tuple[int, ...]:
    """Returns the well-formed parts, and the last one of an episode that a limit truncated."""
    last = len(summary.parts) - 1 if summary.stop is Stop.LENGTH else None
    return tuple(n for n, part in enumerate(summary.parts) if part.format_ok or n == last)


def _reason_to_drop(
    summary: EpisodeSummary, keep_group: bool, stale_before: int, overlong: Overlong
) -> Ended | None:
    if summary.turns == 0:
        return Ended.INVALID  # the prompt exceeded the limit: nothing was sampled
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
