"""Totals of a run's training, from the lines of `metrics.jsonl`: a card, a sentence, a warning.

A comparison of before and after means little if nothing was trained, so `warning` is shown with it.
Metrics that lack a key give the totals that they have.
"""

import html
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from orchestra_ray.evaluation.report.svg import element
from orchestra_ray.evaluation.report.training import Metrics

LEAST_SHARE = 0.02  # of the episodes; fewer trained ones are next to nothing
# The least sum of learning rates with a visible effect; a tiny policy needs larger steps.
LEAST_MOVED, LEAST_MOVED_TINY = 1e-5, 1e-3
LEAST_LR_TINY = 1e-4  # of a run with a tiny policy


@dataclass(frozen=True, slots=True)
class Trained:
    """Sums over the steps of a run; None if the metrics lack the key.

    moved_most: the sum of the learning rates of all optimizer steps, about the largest change of a
    weight under Adam.
    """

    steps: int
    learned_steps: int  # with a trained episode and a gradient
    episodes: int
    dispatched: int | None
    sequences: int
    tokens: int
    groups: int
    dropped: Mapping[str, int]
    failed: Mapping[str, int]
    optimizer_steps: int
    lr: tuple[float, float] | None
    moved_most: float | None
    tiny: bool = False

    @staticmethod
    def of(metrics: Metrics, tiny: bool = False) -> "Trained | None":
        """Returns None if no step reports trained episodes. tiny: whether the policy is tiny."""
        episodes_N = metrics.values("trained_episodes")
        if episodes_N is None:
            return None
        trained_N = np.nan_to_num(episodes_N) > 0
        grad_N, lr_N = metrics.values("grad_norm"), metrics.values("lr")
        learned_N = trained_N if grad_N is None else trained_N & (grad_N != 0.0)
        optimizer_N = metrics.values("optimizer_steps")
        if optimizer_N is None:
            optimizer_N = trained_N.astype(float)
        rates_N = None if lr_N is None else lr_N[np.isfinite(lr_N)]
        moved_N = None if lr_N is None else np.nan_to_num(lr_N) * np.nan_to_num(optimizer_N)
        return Trained(
            steps=len(metrics.steps_N),
            learned_steps=int(learned_N.sum()),
            episodes=_sum(metrics, "trained_episodes"),
            dispatched=_sum(metrics, "episodes_dispatched") or None,
            sequences=_sum(metrics, "trained_sequences"),
            tokens=_sum(metrics, "trained_response_tokens"),
            groups=_sum(metrics, "groups_kept") + _sum(metrics, "groups_dropped"),
            dropped=_by_reason(metrics, "groups_dropped/"),
            failed=_by_reason(metrics, "episodes_failed/"),
            optimizer_steps=int(np.nansum(optimizer_N)),
            lr=None if rates_N is None else (float(rates_N.min()), float(rates_N.max())),
            moved_most=None if moved_N is None else float(moved_N.sum()),
            tiny=tiny,
        )

    def sentence(self) -> str:
        """Returns one line for the console, and for pages without charts."""
        share = f"{self.episodes:,}"
        if self.dispatched is not None:
            share += f" of {self.dispatched:,}"
        parts = [f"{share} episodes ({self.sequences:,} sequences, {self.tokens:,} tokens)"]
        steps = f"{self.optimizer_steps:,} optimizer step{'' if self.optimizer_steps == 1 else 's'}"
        parts.append(steps if self.lr is None else f"{steps} at a learning rate of {self._lr()}")
        if self.dropped:
            parts.append(f"groups dropped: {_listed(self.dropped)}")
        if self.failed:
            parts.append(f"episodes failed: {_listed(self.failed)}")
        return f"trained {'; '.join(parts)}"

    def warning(self) -> str | None:
        """Returns a sentence with the reason if next to nothing was trained, else None."""
        if not self.learned_steps:
            if self.episodes:
                return "Nothing was trained: the gradient of every step is zero."
            reasons = {"groups dropped": self.dropped, "episodes failed": self.failed}
            causes = [f"{name}: {_listed(counts)}" for name, counts in reasons.items() if counts]
            steps = "1 step" if self.steps == 1 else f"{self.steps} steps"
            return f"Nothing was trained in {steps}{_in_brackets(causes)}."
        if self.dispatched is not None and self.episodes < LEAST_SHARE * self.dispatched:
            share = f"{self.episodes:,} of {self.dispatched:,} episodes"
            return f"Next to nothing was trained: {share}."
        least = LEAST_MOVED_TINY if self.tiny else LEAST_MOVED
        if self.moved_most is not None and self.moved_most < least:
            return (
                f"Next to nothing was trained: {self.optimizer_steps:,} optimizer steps at a"
                f" learning rate of {self._lr()} move a weight by about {self.moved_most:.1g} at"
                " most; raise learner.lr or training.steps."
            )
        return None

    def card(self) -> str:
        """Returns a section of the page."""
        rows = {
            "steps with an update": f"{self.learned_steps:,} of {self.steps:,}",
            "episodes trained": _of(self.episodes, self.dispatched),
            "sequences trained": f"{self.sequences:,}",
            "response tokens trained": f"{self.tokens:,}",
            "optimizer steps": f"{self.optimizer_steps:,}",
            "groups dropped": f"{_of(sum(self.dropped.values()), self.groups)}{_in(self.dropped)}",
            "episodes failed": f"{sum(self.failed.values()):,}{_in(self.failed)}",
        }
        if self.lr is not None:
            rows["learning rate"] = self._lr()
        if self.moved_most is not None:
            rows["sum of learning rates"] = f"{self.moved_most:.3g}"
        listed = [
            element("dt", html.escape(name)) + element("dd", html.escape(text))
            for name, text in rows.items()
        ]
        warning = self.warning()
        return element(
            "section",
            element("h2", "What was trained"),
            element("p", element("strong", html.escape(warning))) if warning else "",
            element("dl", *listed),
            class_="card",
        )

    def _lr(self) -> str:
        low, high = self.lr or (0.0, 0.0)
        return f"{high:.3g}" if low == high else f"{low:.3g} to {high:.3g}"


def _sum(metrics: Metrics, key: str) -> int:
    values_N = metrics.values(key)
    return 0 if values_N is None else int(np.nansum(values_N))


def _by_reason(metrics: Metrics, prefix: str) -> dict[str, int]:
    """Returns the counts by reason, the most frequent first."""
    counts = {reason: _sum(metrics, prefix + reason) for reason in metrics.keys(prefix)}
    return dict(sorted(counts.items(), key=lambda pair: -pair[1]))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.items())


def _in(counts: Mapping[str, int]) -> str:
    return f" ({_listed(counts)})" if counts else ""


def _of(count: int, total: int | None) -> str:
    return f"{count:,}" if not total else f"{count:,} of {total:,}"


def _in_brackets(texts: list[str]) -> str:
    return f" ({'; '.join(texts)})" if texts else ""
