"""Progress of a run: a bar on a terminal, plain lines elsewhere, nothing if it is disabled."""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from orchestra_ray.tracking.units import cost, duration, short

PHASE_LINE_S = 5.0  # between plain lines of a phase
_RECENT = 20  # updates from which the time left is estimated


class TimeLeft:
    """Estimates the time left by the pace of the last `_RECENT` updates."""

    def __init__(self, done: int, now_s: float):
        self._recent = deque([(done, now_s)], maxlen=_RECENT + 1)

    def after(self, done: int, total: int, now_s: float) -> float | None:
        """Returns the seconds until `total`, given `done` at `now_s`; None without progress."""
        self._recent.append((done, now_s))
        first_done, first_s = self._recent[0]
        if done <= first_done:
            return None
        return max(total - done, 0) * (now_s - first_s) / (done - first_done)


class _Live(RichProgress):
    """A bar with a line of text below it."""

    below = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.below:
            yield Text(self.below)


class _Bar:
    """Base of the bars of steps and phases: a rich bar, or a console for plain lines."""

    def __init__(self, name: str, total: int, enabled: bool, console: Console | None):
        self.name = name
        self.total = total
        self.enabled = enabled
        self.console = console or Console(stderr=True)
        self._live: _Live | None = None
        self._started_s = time.monotonic()
        self._left: TimeLeft | None = None

    def _start(self) -> None:
        self._started_s = time.monotonic()
        if self.enabled and self.console.is_terminal:
            self._live = _Live(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[status]}", markup=False),
                console=self.console,
                expand=True,
            )
            self._live.start()
            self._live.add_task(self.name, total=self.total, status="")

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()

    def _status(self, done: int, already: int, words: list[str]) -> str:
        """Returns `words` and the time left; `already` was done when the bar started."""
        if self._left is None:
            self._left = TimeLeft(already, self._started_s)
        left_s = self._left.after(done, self.total, time.monotonic())
        return " ".join(words if left_s is None else [*words, f"{duration(left_s)} left"])

    def _line(self, text: str) -> None:
        if self.enabled:
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Progress(_Bar):
    """The progress of training; `update` is called once per step, with its metrics."""

    def __init__(self, total_steps: int, enabled: bool = True, console: Console | None = None):
        super().__init__("train", total_steps, enabled, console)

    def __enter__(self) -> "Progress":
        self._start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def update(self, step: int, metrics: Mapping[str, float | int | str]) -> None:
        """Shows that `step` steps are done, with the `step_words` of `metrics`."""
        status = self._status(step, step - 1, _figures(metrics))
        outcome = ", ".join(_outcome(metrics))
        if self._live is not None:
            self._live.below = outcome
            self._live.update(self._live.task_ids[0], completed=step, status=status)
        else:
            words = [self.name, f"{step}/{self.total}", outcome, status]
            self._line(" ".join(word for word in words if word))


class Phase(_Bar):
    """The progress of a long part of the run; created by `phase`."""

    def __init__(self, name: str, total: int, enabled: bool, console: Console | None):
        super().__init__(name, total, enabled, console)
        self.done = 0
        self._last_line_s = 0.0

    def __enter__(self) -> "Phase":
        self._start()
        self._last_line_s = self._started_s
        if self._live is None:
            self._line(f"{self.name}: {self.total} to do")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        took = duration(time.monotonic() - self._started_s)
        how = "done" if kind is None else "stopped"
        self._line(f"{self.name}: {how}, {self.done}/{self.total} in {took}")

    def advance(self, n: int = 1) -> None:
        self.done += n
        status = self._status(self.done, 0, [])
        now_s = time.monotonic()
        if self._live is not None:
            self._live.update(self._live.task_ids[0], completed=self.done, status=status)
        elif now_s - self._last_line_s >= PHASE_LINE_S:
            self._last_line_s = now_s
            self._line(f"{self.name}: {self.done}/{self.total} {status}")


def phase(name: str, total: int, enabled: bool = True, console: Console | None = None) -> Phase:
    """Returns the context manager of a phase; `advance(n)` counts `n` units of `total` as done."""
    return Phase(name, total, enabled, console)


def step_words(metrics: Mapping[str, float | int | str]) -> list[str]:
    """Returns the groups, failures and main numbers of a step, without absent metrics.

    Such as "16 groups: 12 trained, 4 dropped (3 all_wrong, 1 equal)" and "8 of 128 episodes failed
    (8 tool)".
    """
    return [*_outcome(metrics), *_figures(metrics)]


def _figures(metrics: Mapping[str, float | int | str]) -> list[str]:
    words = {
        "reward_mean": lambda value: f"reward {value:.3f}",
        "accuracy": lambda value: f"acc {value:.1%}",
        "cost_usd": lambda value: f"cost {cost(value)}",
        "tokens_per_s": lambda value: f"{short(value)} tok/s",
    }
    found = {name: metrics[name] for name in words if name in metrics}
    return [words[name](value) for name, value in found.items() if not isinstance(value, str)]


def _outcome(metrics: Mapping[str, float | int | str]) -> list[str]:
    """Returns the trained groups, the failed episodes and the lost workers."""
    numbers = {name: one for name, one in metrics.items() if not isinstance(one, str)}
    return [*_group_words(numbers), *_failure_words(numbers), *_loss_words(numbers)]


def _group_words(metrics: Mapping[str, float]) -> list[str]:
    if "groups_kept" not in metrics:
        return []
    trained, dropped = int(metrics["groups_kept"]), int(metrics.get("groups_dropped", 0))
    total = trained + dropped
    text = f"{total} group{'' if total == 1 else 's'}: {trained} trained"
    if dropped:
        text += f", {dropped} dropped{_by_reason(metrics, 'groups_dropped/')}"
    if trained and metrics.get("grad_norm") == 0.0:
        text += ", gradient 0"
    return [text]


def _failure_words(metrics: Mapping[str, float]) -> list[str]:
    failed = int(metrics.get("episodes_failed", 0))
    if not failed:
        return []
    total = int(metrics.get("episodes_dispatched", failed))
    reasons = _by_reason(metrics, "episodes_failed/")
    if failed == total:
        return [f"all {total} episodes failed{reasons}"]
    return [f"{failed} of {total} episodes failed{reasons}"]


def _loss_words(metrics: Mapping[str, float]) -> list[str]:
    lost = int(metrics.get("rollout_workers_lost", 0))
    return [f"{lost} rollout worker{'' if lost == 1 else 's'} lost"] if lost else []


def _by_reason(metrics: Mapping[str, float], prefix: str) -> str:
    """Returns " (3 all_wrong, 1 equal)", the most frequent first; "" if no reason is known."""
    counts = {key[len(prefix) :]: int(n) for key, n in metrics.items() if key.startswith(prefix)}
    ranked = sorted(counts.items(), key=lambda pair: -pair[1])
    return f" ({', '.join(f'{n} {reason}' for reason, n in ranked)})" if ranked else ""
