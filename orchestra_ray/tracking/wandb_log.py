"""The W&B run beside the JSONL files. Whatever W&B does, the run goes on.

The first fault is said in one line and ends the logging to W&B; starting and finishing have
deadlines of their own. W&B's console capture and code capture are off: they would write what no
redactor has seen. `except Exception` is the contract here: W&B raises its own errors, those of its
service process and those of the network, and none of them may reach the run.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import wandb

from orchestra_ray.config.schema import WandbMode

START_DEADLINE_S = 30.0
FINISH_DEADLINE_S = 60.0


class WandbLog:
    """One W&B run, or none. `mode` tells which: online, offline or disabled."""

    def __init__(self, run: "wandb.Run | None", mode: str, say: Callable[[str], None]):
        self._run = run
        self._say = say
        self.mode = mode
        self.run_id = run.id if run is not None else None

    @staticmethod
    def start(
        mode: WandbMode,
        project: str,
        name: str,
        folder: Path,
        config: Mapping[str, Any],
        say: Callable[[str], None],
    ) -> "WandbLog":
        """Starts a run whose files lie in `folder`/wandb. `config` must be redacted.

        A run that cannot go online is kept offline; where that fails too, there is none.
        """
        if mode is WandbMode.DISABLED:
            return WandbLog(None, "disabled", say)
        try:
            wandb.setup(wandb.Settings(silent=True))
            wanted = _auto_mode() if mode is WandbMode.AUTO else mode.value
        except Exception as error:
            say(f"W&B is off: {_line(error)}")
            return WandbLog(None, "disabled", say)
        return _start(wanted, project, name, folder, config, say)

    def log(self, step: int, metrics: Mapping[str, Any]) -> None:
        self._guard("log a step", lambda run: run.log(dict(metrics), step=step))

    def summary(self, values: Mapping[str, Any]) -> None:
        self._guard("write the summary", lambda run: run.summary.update(dict(values)))

    def finish(self) -> None:
        """Waits up to `FINISH_DEADLINE_S` for uploads; what is left stays on disk for a sync."""
        self._guard("finish", lambda run: run.finish())
        self._run = None

    def _guard(self, doing: str, action: Callable[["wandb.Run"], object]) -> None:
        if self._run is None:
            return
        try:
            action(self._run)
        except Exception as error:
            self._run = None
            self._say(f"W&B is off from here on, it could not {doing}: {_line(error)}")


def _auto_mode() -> str:
    """WANDB_MODE where it is set; else online where there are credentials. Uses no network."""
    chosen = os.environ.get("WANDB_MODE")
    if chosen:
        return chosen
    return "online" if wandb.login(prompt=False, verify=False) else "offline"


def _start(
    mode: str,
    project: str,
    name: str,
    folder: Path,
    config: Mapping[str, Any],
    say: Callable[[str], None],
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
            say(f"W&B cannot go online, so it logs offline: {_line(error)}")
            return _start("offline", project, name, folder, config, say)
        say(f"W&B is off: {_line(error)}")
        return WandbLog(None, "disabled", say)
    if mode == "offline":
        say(f"W&B logs offline; upload it later with: wandb sync {Path(run.dir).parent}")
    else:
        say(f"W&B: {run.url or mode}")
    return WandbLog(run, mode, say)


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
