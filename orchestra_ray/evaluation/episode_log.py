"""The record of an evaluated episode, and the log from which an evaluation resumes.

The log is `evaluation.jsonl` in the run's folder, one line for each episode, written when it ends.
A resumed evaluation runs only the missing episodes, and pays for nothing twice.
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
    """The result of an episode. `number`: of its task among the held-out ones.

    `calls` are by identity, `models` by the model that served them, `outcomes` by class of fault as
    in `EpisodeSummary`; {} for a line without them. It holds no text of the task.
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
        number: int, task_id: str, family: str, summary: EpisodeSummary, correct: bool
    ) -> "EvalEpisode":
        return EvalEpisode(
            number=number,
            task_id=task_id,
            family=family,
            correct=correct,
            price_nanousd=summary.price_nanousd,
            latency_s=summary.latency_s,
            turns=summary.turns,
            calls=dict(summary.calls),
            models=dict(summary.models),
            outcomes=dict(summary.outcomes),
        )


class EpisodeLog:
    """Append-only. Opening it reads the episodes and cuts an incomplete last line."""

    def __init__(self, path: Path):
        self._done: dict[str, dict[int, EvalEpisode]] = {}
        if path.exists():
            self._read(path)
        self._file = JsonlFile(path)

    def done(self, policy: str) -> Mapping[int, EvalEpisode]:
        """Returns the episodes of a policy by their tasks' numbers."""
        return self._done.get(policy, {})

    def add(self, policy: str, episode: EvalEpisode) -> Failure | None:
        self._done.setdefault(policy, {})[episode.number] = episode
        return self._file.write({"policy": policy, **asdict(episode)})

    def close(self) -> None:
        self._file.close()

    def _read(self, path: Path) -> None:
        whole, _, torn = path.read_bytes().rpartition(b"\n")
        if torn:
            os.truncate(path, len(whole) + bool(whole))
        self._done = read_episodes(path)


def read_episodes(path: Path) -> dict[str, dict[int, EvalEpisode]]:
    """Returns the episodes of each policy by task number, without an incomplete last line."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    rows: dict[str, dict[int, EvalEpisode]] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            values = json.loads(line)
            episode = EvalEpisode(**{k: v for k, v in values.items() if k != "policy"})
            rows.setdefault(values["policy"], {})[episode.number] = episode
        except (ValueError, TypeError, KeyError, AttributeError):
            problem = "is no episode of this version; evaluate under another name"
            raise ConfigError(f"{path}:{number}: {problem}") from None
    return rows
