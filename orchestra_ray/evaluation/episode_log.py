"""One evaluated episode as it is written down, and the log of them that an evaluation goes on from.

The log is `evaluation.jsonl` in the run's folder, a line an episode, written when it ends. So an
evaluation that was interrupted plays only what is missing, and pays for nothing twice.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import EpisodeSummary
from orchestra_ray.tracking.files import JsonlFile

FILE = "evaluation.jsonl"


@dataclass(frozen=True, slots=True)
class EvalEpisode:
    """What an episode came to. `number` is its task's among the held-out ones.

    `calls` are by identity, `models` by the model that did them, `outcomes` by class of fault as in
    a `Card`; a line that was written without them tells none. No text of a task is in it.
    """

    number: int
    task_id: str
    family: str
    correct: bool
    price_nanousd: int
    latency_s: float
    turns: int
    calls: Mapping[str, int]
    models: Mapping[str, int]
    outcomes: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def of(
        number: int, task_id: str, family: str, card: EpisodeSummary, correct: bool
    ) -> "EvalEpisode":
        return EvalEpisode(
            number=number,
            task_id=task_id,
            family=family,
            correct=correct,
            price_nanousd=card.price_nanousd,
            latency_s=card.latency_s,
            turns=card.turns,
            calls=dict(card.calls),
            models=dict(card.models),
            outcomes=dict(card.outcomes),
        )


class EpisodeLog:
    """Append-only. Opening it reads what is there; half a line at its end, of a crash, is cut."""

    def __init__(self, path: Path):
        self._done: dict[str, dict[int, EvalEpisode]] = {}
        if path.exists():
            self._read(path)
        self._file = JsonlFile(path)

    def done(self, policy: str) -> Mapping[int, EvalEpisode]:
        """The episodes of a policy by their tasks' numbers."""
        return self._done.get(policy, {})

    def add(self, policy: str, measured: EvalEpisode) -> Failure | None:
        self._done.setdefault(policy, {})[measured.number] = measured
        return self._file.write({"policy": policy, **asdict(measured)})

    def close(self) -> None:
        self._file.close()

    def _read(self, path: Path) -> None:
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        if torn:
            os.truncate(path, len(whole) + bool(whole))
        self._done = read_episodes(path)


def read_episodes(path: Path) -> dict[str, dict[int, EvalEpisode]]:
    """The episodes of each policy by their tasks' numbers. Half a line at the end is none."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    rows: dict[str, dict[int, EvalEpisode]] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            values = json.loads(line)
            measured = EvalEpisode(**{k: v for k, v in values.items() if k != "policy"})
            rows.setdefault(values["policy"], {})[measured.number] = measured
        except (ValueError, TypeError, KeyError, AttributeError):
            problem = "is no episode of this version; evaluate under another name"
            raise ConfigError(f"{path}:{number}: {problem}") from None
    return rows
