"""Steps that train nothing: when they end the run, and the one line that says why. Pure.

A step is idle where no episode was trained, or the gradient of all that were is zero. A run ends
after `limit` idle steps in a row, and at once after a step in which every episode failed for one
permanent reason. Of private tasks no word is kept (`tasks/private.py`).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestra_ray.core.faults import Failure
from orchestra_ray.core.process_log import LogTail
from orchestra_ray.data.tasks.private import told
from orchestra_ray.driver.filters import ScoredGroup

MOST_REASONS = 3  # kinds of failures that a line names
MAX_CHARACTERS = 300  # of a message in it
ZERO_GRADIENT = "zero gradient"
Metrics = Mapping[str, float]

_CLASS = re.compile(r"(?<![\w.])[\w.]*(?:Error|Exception)\b")
_WORD = re.compile(r"[\w./#-]+")  # or a path
_NUMBERED = re.compile(r"[\d#]")

_ADVICE = {
    "all_wrong": "no episode of these groups was right: give easier tasks or a better policy",
    "equal": "the rewards within a group are equal: raise rollout.temperature or"
    " training.group_size, or give harder tasks",
    "close": "the rewards within a group hardly differ: raise rollout.temperature or"
    " training.group_size",
    "single": "one episode of a group came back: see the failures in events.jsonl",
    "stale": "the episodes are too old: raise training.max_staleness",
    "filtered_format": "no turn kept the tool-call format: train longer on demonstrations, or"
    " choose a policy that knows it",
    "filtered_invalid": "no episode gave an answer: raise rollout.max_turns or the token limits",
    "filtered_overlong": "every episode met a token limit: raise rollout.max_response_tokens or"
    " rollout.max_prompt_tokens",
    "failed_deadline": "the episodes run past their deadline: raise rollout.episode_deadline_s",
    "failed_budget": "a spending limit ends the episodes: raise the limits under spend",
    ZERO_GRADIENT: "what is trained has no gradient: look at learner.loss and at the advantages",
}
_SEE_FAILURES = "events.jsonl has every failure; correct what they name"
_SEE_METRICS = "metrics.jsonl has every step"


@dataclass(frozen=True, slots=True)
class Reason:
    """A failure up to ids and numbers: what is the same of many failures."""

    kind: str
    where: str
    message: str


@dataclass(slots=True)
class Reasons:
    """Failures by their reason, each with the first message that gave it."""

    counts: Counter[Reason] = field(default_factory=Counter)
    messages: dict[Reason, str] = field(default_factory=dict)
    permanent: Counter[Reason] = field(default_factory=Counter)
    log: LogTail | None = None  # of the first that has one

    def add(self, failure: Failure, ids: Sequence[str] = ()) -> None:
        """`ids` are those of the task, the group and the episode."""
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

    def the_permanent_one(self) -> Reason | None:
        """Where all have one reason, and all are permanent."""
        if len(self.counts) != 1:
            return None
        ((reason, count),) = self.counts.items()
        return reason if self.permanent[reason] == count else None

    def words(self) -> str:
        """The most frequent: "128 infrastructure (KeyError: '<think>'), 3 deadline (...)"."""
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
    """The same for failures that differ in `ids` and in words and paths with a digit only.

    Permanent ones are the same if their exceptions are of one class: a bug meets other words in
    every episode.
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
    """Told of each step by `after`; `ending` is then why the run has to end, if it has to."""

    def __init__(self, limit: int | None):
        """limit: 0 and None never end a run for idle steps."""
        self._limit = limit or None
        self._steps = 0
        self._trained_steps = 0
        self._clear()
        self.ending: str | None = None

    def after(self, step: int, groups: Sequence[ScoredGroup], metrics: Metrics) -> None:
        """`metrics` are those of the step, with the groups that were dropped and the gradient."""
        self._steps += 1
        if metrics.get("trained_episodes") and metrics.get("grad_norm", 1.0) != 0.0:
            self._trained_steps += 1
            self._clear()
            return
        failed, episodes = _failures(groups), sum(len(group.spec.episodes) for group in groups)
        self._in_a_row += 1
        self._episodes += episodes
        self._note(failed, metrics)
        reason = failed.the_permanent_one()
        if reason is not None and failed.total == episodes:
            self.ending = (
                f"step {step}: every one of {episodes} episodes failed for one reason, which any"
                f" other step would meet again: {failed.words()}; {_SEE_FAILURES}"
            )
            self.log = failed.log
        elif self._limit is not None and self._in_a_row >= self._limit:
            self.ending = (
                f"{self._in_a_row} steps in a row trained nothing (training.idle_steps_max):"
                f" {self._why()}"
            )

    def nothing_trained(self) -> str | None:
        """At the end of a run: why no step of it trained anything; None where one did."""
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
        """Dropped groups by reason, failures by kind with their commonest message, what to do."""
        ranked = self._dropped.most_common()
        dropped = ", ".join(f"{count} {reason}" for reason, count in ranked)
        parts = [f"groups dropped: {dropped}"] if dropped else []
        if self._failed.total:
            failed = self._failed.words()
            parts.append(f"{self._failed.total} of {self._episodes} episodes failed: {failed}")
        return "; ".join([*parts, self._advice(ranked)])

    def _advice(self, ranked: Sequence[tuple[str, int]]) -> str:
        commonest = ranked[0][0] if ranked else ""
        if commonest in _ADVICE:
            return _ADVICE[commonest]
        return _SEE_FAILURES if self._failed.total else _SEE_METRICS


def _failures(groups: Sequence[ScoredGroup]) -> Reasons:
    """Of each failed episode; where a group could not be scored, of all that came back."""
    reasons = Reasons()
    for group in groups:
        task = group.spec.task
        ids = [task.task_id, group.spec.group_id, *(e.episode_id for e in group.spec.episodes)]
        failures = list(group.failed.values())
        if group.score.failure is not None:
            failures += [group.score.failure] * len(group.rollouts)
        for failure in failures:
            reasons.add(told(failure, task), ids)
    return reasons
