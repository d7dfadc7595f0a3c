"""Which episodes of a scored group are trained, and the terminal state of those that are not.

The three filters of the paper (section 4.4): homogeneous groups, episodes without an answer, and
episodes in which no turn kept the format. Filtered episodes still count in their group's mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestra_ray.core.records import Card, EpisodeScore, GroupScore, GroupSpec
from orchestra_ray.core.states import Ended, Failure


@dataclass(frozen=True, slots=True)
class Rollout:
    """An episode that came back: its card and the reference to its trajectory."""

    card: Card
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
class Selection:
    """Episodes to train with their advantages, and the others with their states."""

    trained: tuple[tuple[Rollout, float], ...]
    dropped: Mapping[str, Ended]


def select(group: ScoredGroup, stale_before: int) -> Selection:
    """Applies staleness and the filters; `stale_before` is the oldest version still allowed."""
    dropped = {
        episode_id: Ended.failed(failure.kind) for episode_id, failure in group.failed.items()
    }
    if group.score.failure is not None:
        state = Ended.failed(group.score.failure.kind)
        dropped |= {rollout.card.episode_id: state for rollout in group.rollouts}
        return Selection((), dropped)
    trained: list[tuple[Rollout, float]] = []
    for rollout, score in group.pairs():
        state = _reason_to_drop(rollout.card, group.score.keep, stale_before)
        if state is None:
            trained.append((rollout, score.advantage))
        else:
            dropped[rollout.card.episode_id] = state
    return Selection(tuple(trained), dropped)


def _reason_to_drop(card: Card, keep_group: bool, stale_before: int) -> Ended | None:
    if card.turns == 0:
        return Ended.INVALID  # its prompt was over the limit: nothing was sampled
    if card.version_min < stale_before:
        return Ended.STALE
    if not keep_group:
        return Ended.HOMOGENEOUS
    if card.turns_well_formed == 0:
        return Ended.FORMAT
    if not card.answered:
        return Ended.INVALID
    return None
