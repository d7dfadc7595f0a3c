"""Decides whether steps that train nothing end the run, and explains why in one line.

A step is idle if it trained no episode, or its gradient was zero. A run ends after `limit` idle
steps in a row, and at once after a step in which every episode failed for the same permanent
reason. Failures on private tasks are redacted (`data/tasks/private.py`).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestra_ray.core.faults import Failure
from orchestra_ray.core.process_log import LogTail
from orchestra_ray.data.tasks.private import redact_private
from orchestra_ray.driver.filters import ScoredGroup

MOST_REASONS = 3  # kinds of failures in a line
MAX_CHARACTERS = 300  # of a message in a line
ZERO_GRADIENT = "zero gradient"
Metrics = Mapping[str, float]

_CLASS = re.compile(r"(?<![\w.])[\w.]*(?:Error|Exception)\b")
_WORD = re.compile(r"[\w./#-]+")  # or a path
_NUMBERED = re.compile(r"[\d#]")

_ADVICE = {
    "all_wrong": "no episode of these groups was correct: use easier tasks or a better policy",
    "equal": "the rewards within a group are equal: raise rollout.temperature or"
    " training.group_size, or use harder tasks",
    "close": "the rewards within a group hardly differ: raise rollout.temperature or"
    " training.group_size",
    "single": "only one episode of a group succeeded: see the failures in events.jsonl",
    "stale": "the episodes are too old: raise training.max_staleness",
    "filtered_format": "no turn kept the tool-call format: train longer on demonstrations, or"
    " choose a policy that knows it",
    "filtered_invalid": "no episode gave an answer: raise rollout.max_turns or the token limits",
    "filtered_overlong": "every episode reached a token limit: raise rollout.max_response_tokens or"
    " rollout.max_prompt_tokens",
    "failed_deadline": "the episodes run past their deadline: raise rollout.episode_deadline_s",
    "failed_budget": "a spending limit ends the episodes: raise the limits under spend",
    ZERO_GRADIENT: "the trained episodes have no gradient: check learner.loss and the advantages",
}
_SEE_FAILURES = "events.jsonl has every failure; correct their causes"
_SEE_METRICS = "metrics.jsonl has every step"


@dataclass(frozen=True, slots=True)
class Reason:
    """A failure without ids and numbers, which many failures share."""

    kind: str
    where: str
    message: str


@dataclass(slots=True)
class Reasons:
    """Counts of failures by reason, with the first message of each."""

    counts: Counter[Reason] = field(default_factory=Counter)
    messages: dict[Reason, str] = field(default_factory=dict)
    permanent: Counter[Reason] = field(default_factory=Counter)
    log: LogTail | None = None  # of the first failure with a log

    def add(self, failure: Failure, ids: Sequence[str] = ()) -> None:
        """Adds a failure. `ids` are of its task, group and episodes."""
        reason = reason_of(failure, ids)
        self.counts[reason] += 1
        self.permanent[reason] += failure.permanent
        self.messages.setdefault(reason, " ".join(failure.message.split())[:MAX_CHARACTERS])
        self.log = self.log or failure.log

    def update(self, later: "Reasons") -> None:
        self.counts.update(later.counts)
        self.permanent.update(later.permanent)
        self.messages = later.messages | self.messages
        self.log = self.log or later.log

    @property
    def total(self) -> int:
        return self.counts.total()

    def sole_permanent(self) -> Reason | None:
        """Returns the reason if all failures share it and all are permanent."""
        if len(self.counts) != 1:
            return None
        ((reason, count),) = self.counts.items()
        return reason if self.permanent[reason] == count else None

    def summary(self) -> str:
        """Returns the commonest kinds: "128 infrastructure (KeyError: 'x'), 3 deadline (...)"."""
        kinds = Counter[str]()
        for reason, count in self.counts.items():
            kinds[reason.kind] += count
        return ", ".join(
            f"{count} {kind} ({self._most_common_of(kind)})"
            for kind, count in kinds.most_common(MOST_REASONS)
        )

    def _most_common_of(self, kind: str) -> str:
        of_kind = {reason: n for reason, n in self.counts.items() if reason.kind == kind}
        return self.messages[max(of_kind, key=of_kind.__getitem__)]


def reason_of(failure: Failure, ids: Sequence[str] = ()) -> Reason:
    """Returns the same reason for failures that differ only in `ids`, numbers and numbered paths.

    Permanent failures are compared by the class of their exceptions, since the message of a bug
    differs by episode.
    """
    message = failure.message
    if failure.permanent and (found := _CLASS.search(message)):
        message = found.group()
    return Reason(failure.kind.value, _without(failure.where, ids), _without(message, ids))


def _without(text: str, ids: Sequence[str]) -> str:
    for name in sorted(filter(None, ids), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "#", text)
    return _WORD.sub(lambda word: "#" if _NUMBERED.search(word[0]) else word[0], text)


class IdleSteps:
    """Updated after each step by `after`; `ending` is the reason to end the run, or None."""

    def __init__(self, limit: int | None):
        """limit: 0 and None mean unlimited."""
        self._limit = limit or None
        self._steps = 0
        self._trained_steps = 0
        self._clear()
        self.ending: str | None = None

    def after(self, step: int, groups: Sequence[ScoredGroup], metrics: Metrics) -> None:
        """`metrics` of the step include the dropped groups and the gradient norm."""
        self._steps += 1
        if metrics.get("trained_episodes") and metrics.get("grad_norm", 1.0) != 0.0:
            self._trained_steps += 1
            self._clear()
            return
        failed, episodes = _failures(groups), sum(len(group.spec.episodes) for group in groups)
        self._in_a_row += 1
        self._episodes += episodes
        self._note(failed, metrics)
        reason = failed.sole_permanent()
        if reason is not None and failed.total == episodes:
            self.ending = (
                f"step {step}: every one of {episodes} episodes failed for one reason, which every"
                f" further step would repeat: {failed.summary()}; {_SEE_FAILURES}"
            )
            self.log = failed.log
        elif self._limit is not None and self._in_a_row >= self._limit:
            self.ending = (
                f"{self._in_a_row} steps in a row trained nothing (training.idle_steps_max):"
                f" {self._why()}"
            )

    def nothing_trained(self) -> str | None:
        """Returns, at the end of a run, why no step trained anything; None if one did."""
        if self._trained_steps or not self._steps:
            return None
        steps = "1 step" if self._steps == 1 else f"{self._steps} steps"
        return f"nothing was trained in {steps}: {self._why()}"

    def _clear(self) -> None:
        self._in_a_row, self._episodes = 0, 0
        self._dropped: Counter[str] = Counter()
        self._failed = Reasons()
        self.log: LogTail | None = None

    def _note(self, failed: Reasons, metrics: Metrics) -> None:
        for key, count in metrics.items():
            prefix, _, reason = key.partition("/")
            if prefix == "groups_dropped" and reason:
                self._dropped[reason] += int(count)
        if metrics.get("trained_episodes"):
            self._dropped[ZERO_GRADIENT] += int(metrics.get("groups_kept", 0))
        self._failed.update(failed)
        self.log = self._failed.log

    def _why(self) -> str:
        """Returns dropped groups by reason, failures by kind with a message, and the remedy."""
        ranked = self._dropped.most_common()
        dropped = ", ".join(f"{count} {reason}" for reason, count in ranked)
        parts = [f"groups dropped: {dropped}"] if dropped else []
        if self._failed.total:
            failed = self._failed.summary()
            parts.append(f"{self._failed.total} of {self._episodes} episodes failed: {failed}")
        return "; ".join([*parts, self._advice(ranked)])

    def _advice(self, ranked: Sequence[tuple[str, int]]) -> str:
        commonest = ranked[0][0] if ranked else ""
        if commonest in _ADVICE:
            return _ADVICE[commonest]
        return _SEE_FAILURES if self._failed.total else _SEE_METRICS


def _failures(groups: Sequence[ScoredGroup]) -> Reasons:
    """Returns the failures of all episodes; an unscored group fails all its rollouts."""
    reasons = Reasons()
    for group in groups:
        task = group.spec.task
        ids = [task.task_id, group.spec.group_id, *(e.episode_id for e in group.spec.episodes)]
        failures = list(group.failed.values())
        if group.score.failure is not None:
            failures += [group.score.failure] * len(group.rollouts)
        for failure in failures:
            reasons.add(redact_private(failure, task), ids)
    return reasons
