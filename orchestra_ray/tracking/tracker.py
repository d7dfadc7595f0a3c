"""The single output of a run's numbers: JSONL files always, W&B beside them.

Writes `config.yaml`, `metrics.jsonl` (one line per step), `events.jsonl` (failures, restarts,
scaling) and `summary.json` into the run's folder, all redacted. A line that cannot be written is
returned as a `Failure`, printed once per file, and does not end the run.
"""

import dataclasses
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from orchestra_ray.config.schema import Config
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Failure
from orchestra_ray.tracking.files import JsonlFile, write_text
from orchestra_ray.tracking.redact import Redactor, protect_logs
from orchestra_ray.tracking.wandb_log import WandbLog

METRICS_FILE = "metrics.jsonl"


class Tracker:
    """Created by `Tracker.open`, and closed by `close` or its `with` block. Not thread-safe."""

    def __init__(self, run_dir: Path, redactor: Redactor, metrics: JsonlFile, events: JsonlFile):
        self.run_dir = run_dir
        self.redactor = redactor
        self._metrics = metrics
        self._events = events
        self._wandb = WandbLog(None, "disabled", self._print)
        self._opened_s = time.monotonic()
        self._reported: set[str] = set()

    @classmethod
    def open(cls, run_dir: Path, config: Config, total_steps: int) -> "Tracker":
        """Creates the folder, writes `config.yaml` and starts W&B by `config.tracking.wandb`.

        Raises ConfigError if the folder cannot be written to.
        """
        redactor = Redactor.of()
        protect_logs(redactor)
        clean_config = redactor.clean(dataclasses.asdict(config))
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            text = yaml.safe_dump(clean_config, sort_keys=False, allow_unicode=True)
            run_dir.joinpath("config.yaml").write_text(text, encoding="utf-8")
            files = [JsonlFile(run_dir / name) for name in (METRICS_FILE, "events.jsonl")]
        except OSError as error:
            raise ConfigError(
                f"{error.filename or run_dir}: cannot be written ({error.strerror});"
                " make room or choose another runs_dir"
            ) from None
        tracker = cls(run_dir, redactor, *files)
        tracker._start_wandb(config, clean_config)
        tracker.event(
            "opened",
            unix_s=time.time(),
            total_steps=total_steps,
            wandb_mode=tracker._wandb.mode,
            wandb_run_id=tracker.wandb_run_id,
        )
        return tracker

    @property
    def wandb_run_id(self) -> str | None:
        """The id of the W&B run; None without W&B."""
        return self._wandb.run_id

    def step(self, step: int, metrics: Mapping[str, float | int | str]) -> Failure | None:
        """Appends to `metrics.jsonl`, with "step" and "time_s" since the tracker was opened."""
        hide = self.redactor.text
        # W&B accepts numbers that JSON lacks, so only texts are redacted for it.
        clean = {hide(k): hide(v) if isinstance(v, str) else v for k, v in metrics.items()}
        self._wandb.log(step, clean)
        stamp = {"step": step, "time_s": self._elapsed_s()}
        return self._write(self._metrics, stamp | self.redactor.clean(metrics) | stamp)

    def event(self, kind: str, **fields: Any) -> Failure | None:
        """Appends to `events.jsonl`, with "kind" and "time_s"."""
        stamp = {"kind": self.redactor.text(kind), "time_s": self._elapsed_s()}
        return self._write(self._events, stamp | self.redactor.clean(fields))

    def summary(self, values: Mapping[str, Any]) -> Failure | None:
        """Writes the final values, redacted, to `summary.json` and W&B. Returns a failed write."""
        clean = self.redactor.clean(values)
        self._wandb.summary(clean)
        failure = write_text(self.run_dir / "summary.json", json.dumps(clean, indent=2) + "\n")
        return self._report_once(failure)

    def close(self) -> None:
        """Ends the W&B run within its deadline and closes the files; may be called twice."""
        self._wandb.finish()
        for file in (self._metrics, self._events):
            if file.lost_lines:
                self._print(f"{file.path}: {file.lost_lines} lines were lost")
                file.lost_lines = 0
            file.close()

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start_wandb(self, config: Config, clean_config: Mapping[str, Any]) -> None:
        tracking = config.tracking
        self._wandb = WandbLog.start(
            tracking.wandb,
            self.redactor.text(tracking.wandb_project),
            self.redactor.text(config.name),
            self.run_dir,
            clean_config,
            self._print,
        )

    def _write(self, file: JsonlFile, record: Mapping[str, Any]) -> Failure | None:
        return self._report_once(file.write(record))

    def _report_once(self, failure: Failure | None) -> Failure | None:
        if failure is not None and failure.where not in self._reported:
            self._reported.add(failure.where)
            self._print(f"{failure.where}: not written ({failure.message}); the run goes on")
        return failure

    def _elapsed_s(self) -> float:
        return round(time.monotonic() - self._opened_s, 3)

    def _print(self, line: str) -> None:
        print(self.redactor.text(line), file=sys.stderr, flush=True)
