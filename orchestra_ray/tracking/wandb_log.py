"""The W&B run beside the JSONL files. No error of W&B ends the training run.

The first error is printed in one line and ends the logging to W&B; starting and finishing have
their own deadlines. W&B's console capture and code capture are off, because their output would not
be redacted. `except Exception` is deliberate: W&B raises its own errors, those of its service
process and those of the network.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import wandb

from orchestra_ray.config.enums import WandbMode
from orchestra_ray.core.errors import first_line

START_DEADLINE_S = 30.0
FINISH_DEADLINE_S = 60.0


class WandbLog:
    """One W&B run, or none. mode: online, offline or disabled."""

    def __init__(self, run: "wandb.Run | None", mode: str, report: Callable[[str], None]):
        self._run = run
        self._report = report
        self.mode = mode
        self.run_id = run.id if run is not None else None

    @staticmethod
    def start(
        mode: WandbMode,
        project: str,
        name: str,
        folder: Path,
        config: Mapping[str, Any],
        report: Callable[[str], None],
    ) -> "WandbLog":
        """Starts a run with files in `folder`/wandb. `config` must be redacted.

        A run that cannot go online is kept offline; if that fails too, there is none.
        """
        if mode is WandbMode.DISABLED:
            return WandbLog(None, "disabled", report)
        try:
            wandb.setup(wandb.Settings(silent=True))
            wanted = _auto_mode() if mode is WandbMode.AUTO else mode.value
        except Exception as error:
            report(f"W&B is off: {first_line(error)}")
            return WandbLog(None, "disabled", report)
        return _start(wanted, project, name, folder, config, report)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        self._attempt("log a step", lambda run: run.log(dict(metrics), step=step))

    def summary(self, values: Mapping[str, Any]) -> None:
        self._attempt("write the summary", lambda run: run.summary.update(dict(values)))

    def finish(self) -> None:
        """Waits up to `FINISH_DEADLINE_S` for uploads; the rest stays on disk for a sync."""
        self._attempt("finish", lambda run: run.finish())
        self._run = None

    def _attempt(self, doing: str, action: Callable[["wandb.Run"], object]) -> None:
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:
            self._run = None
            self._report(f"W&B is off from here on, as it could not {doing}: {first_line(error)}")


def _auto_mode() -> str:
    """Returns WANDB_MODE if it is set, else online if there are credentials. Uses no network."""
    mode = os.environ.get("WANDB_MODE")
    if mode:
        return mode
    return "online" if wandb.login(prompt=False, verify=False) else "offline"


def _start(
    mode: str,
    project: str,
    name: str,
    folder: Path,
    config: Mapping[str, Any],
    report: Callable[[str], None],
) -> WandbLog:
    try:
        run = wandb.init(
            project=project,
            name=name,
            dir=folder,
            config=dict(config),
            mode=mode,  # pyright: ignore[reportArgumentType]  # W&B names the choices it refuses
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                x_disable_meta=True,
                x_save_requirements=False,
                init_timeout=START_DEADLINE_S,
                finish_timeout=FINISH_DEADLINE_S,
            ),
        )
    except Exception as error:
        if mode == "online":
            report(f"W&B cannot go online, so it logs offline: {first_line(error)}")
            return _start("offline", project, name, folder, config, report)
        report(f"W&B is off: {first_line(error)}")
        return WandbLog(None, "disabled", report)
    if mode == "offline":
        report(f"W&B logs offline; upload it later with: wandb sync {Path(run.dir).parent}")
    else:
        report(f"W&B: {run.url or mode}")
    return WandbLog(run, mode, report)
