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
from orchestra_ray.core.records import Card, EpisodeScore, GroupScore, GroupSpec
from orchestra_ray.core.states import Ended, Stop


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
class Chosen:
    """An episode to train: its advantages, one a turn, and its sequences that kept the format."""

    rollout: Rollout
    advantages: tuple[float, ...]
    parts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """What to train of each episode, and the states of the episodes that are not trained."""

    trained: tuple["Chosen", ...]
    dropped: Mapping[str, Ended]


def select(
    group: ScoredGroup, stale_before: int, overlong: Overlong = Overlong.FILTER
) -> Selection:
    """Applies staleness and the filters; `stale_before` is the oldest version still allowed."""
    dropped = {
        episode_id: Ended.failed(failure.kind) for episode_id, failure in group.failed.items()
    }
    if group.score.failure is not None:
        state = Ended.failed(group.score.failure.kind)
        dropped |= {rollout.card.episode_id: state for rollout in group.rollouts}
        return Selection((), dropped)
    trained: list[Chosen] = []
    for rollout, score in group.pairs():
        state = _reason_to_drop(rollout.card, group.score.keep, stale_before, overlong)
        if state is None:
            advantages = score.turn_advantages or (score.advantage,) * rollout.card.turns
            trained.append(Chosen(rollout, advantages, _parts_to_train(rollout.card)))
        else:
            dropped[rollout.card.episode_id] = state
    return Selection(tuple(trained), dropped)


def _parts_to_train(card: Card) -> tuple[int, ...]:
    """Those that kept the format; and the one that a limit cut, for which it could not."""
    last = len(card.parts) - 1 if card.stop is Stop.LENGTH else None
    return tuple(n for n, part in enumerate(card.parts) if part.format_ok or n == last)


def _reason_to_drop(
    card: Card, keep_group: bool, stale_before: int, overlong: Overlong
) -> Ended | None:
    if card.turns == 0:
        return Ended.INVALID  # its prompt was over the limit: nothing was sampled
    if card.version_min < stale_before:
        return Ended.STALE
    if not keep_group:
        return Ended.HOMOGENEOUS
    if card.stop is Stop.LENGTH:
        return Ended.OVERLONG if overlong is Overlong.FILTER else None
    if card.turns_well_formed == 0:
        return Ended.FORMAT
    if not card.answered:
        return Ended.INVALID
    return None
