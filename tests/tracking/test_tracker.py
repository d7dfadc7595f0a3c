"""The files of a run, with a full disk, a failing W&B and planted secrets."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from orchestra_ray.config.enums import WandbMode
from orchestra_ray.config.schema import Config
from orchestra_ray.config.tree import typed_tree
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.tracking.tracker import Tracker

SECRET = "sk-planted/0+secret"


def config(mode: WandbMode = WandbMode.DISABLED) -> Config:
    made = Config(name="a run")
    made.catalogue.path = "catalogue.yaml"
    made.training.steps = 3
    made.tracking.wandb = mode
    return made


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_step_is_a_line_with_its_number_and_time(tmp_path: Path) -> None:
    with Tracker.open(tmp_path / "run", config(), 3) as tracker:
        for step in (1, 2):
            assert (
                tracker.step(step, {"step": step, "reward_mean": 0.5, "loss": float("nan")}) is None
            )
        written = lines(tmp_path / "run" / "metrics.jsonl")
    assert [list(line) for line in written] == [["step", "time_s", "reward_mean", "loss"]] * 2
    assert [line["step"] for line in written] == [1, 2]
    assert 0 <= written[0]["time_s"] <= written[1]["time_s"] < 60
    assert written[0]["loss"] == "NaN"


def test_events_begin_with_the_opening_and_follow_in_order(tmp_path: Path) -> None:
    with Tracker.open(tmp_path, config(), 3) as tracker:
        tracker.event("restart", worker=1, reason="lost")
    opened, restart = lines(tmp_path / "events.jsonl")
    assert (opened["kind"], opened["total_steps"]) == ("opened", 3)
    assert (restart["kind"], restart["worker"], restart["reason"]) == ("restart", 1, "lost")


def test_the_config_file_says_all_that_the_config_says(tmp_path: Path) -> None:
    given = config()
    Tracker.open(tmp_path, given, 3).close()
    tree = typed_tree(Config, yaml.safe_load((tmp_path / "config.yaml").read_text()))
    assert tree["learner"]["zero_stage"] is given.learner.zero_stage
    assert tree["tracking"]["wandb"] is WandbMode.DISABLED
    assert tree["name"] == "a run"
    assert tree["training"]["steps"] == 3


def test_the_summary_is_written(tmp_path: Path) -> None:
    with Tracker.open(tmp_path, config(), 3) as tracker:
        assert tracker.summary({"after": {"reward": 0.5}, "tasks": 2}) is None
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written == {"after": {"reward": 0.5}, "tasks": 2}


def test_close_may_be_called_twice(tmp_path: Path) -> None:
    tracker = Tracker.open(tmp_path, config(), 3)
    tracker.close()
    tracker.close()


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"^.*file/run: cannot be written \(Not a directory\)"):
        Tracker.open(tmp_path / "file" / "run", config(), 3)


def test_a_metrics_file_that_cannot_be_opened_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(ConfigError, match="metrics.jsonl: cannot be written"):
        Tracker.open(tmp_path, config(), 3)


def test_a_full_disk_is_said_once_and_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with Tracker.open(tmp_path, config(), 3) as tracker:
        failures = [tracker.step(step, {"reward_mean": 0.5}) for step in (1, 2, 3)]
        assert tracker.event("disk", steps=3) is None
    assert [one.message for one in failures if one] == ["No space left on device"] * 3
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path}/metrics.jsonl: not written (No space left on device); the run goes on",
        f"{tmp_path}/metrics.jsonl: 3 lines were lost",
    ]


def test_planted_secrets_reach_no_file_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXPERT_API_KEY", SECRET)
    given = config(WandbMode.OFFLINE)
    given.model.path = f"models/{SECRET}"
    given.tracking.wandb_project = f"project {SECRET}"
    given.catalogue.preferences = []
    with Tracker.open(tmp_path, given, 3) as tracker:
        tracker.step(1, {"note": f"used {SECRET}", SECRET: 1.0})
        tracker.event("failure", message=f"401 for {SECRET}", detail={"headers": [SECRET]})
        tracker.summary({"command": f"run --key {SECRET}"})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"config.yaml", "metrics.jsonl", "events.jsonl", "summary.json"} <= names
    assert any(path.suffix == ".wandb" for path in files)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in "".join(capsys.readouterr())
    assert "[redacted]" in (tmp_path / "config.yaml").read_text()


def test_wandb_offline_lies_in_the_run_folder_and_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Tracker.open(tmp_path, config(WandbMode.OFFLINE), 3) as tracker:
        tracker.step(1, {"reward_mean": 0.5, "loss": float("nan"), "name": "x"})
        run_id = tracker.wandb_run_id
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert folder.name.endswith(f"-{run_id}")
    assert (folder / f"run-{run_id}.wandb").stat().st_size > 0
    said = capsys.readouterr().err.splitlines()
    assert said == [f"W&B logs offline; upload it later with: wandb sync {folder}"]
    assert lines(tmp_path / "events.jsonl")[0]["wandb_run_id"] == run_id


def test_without_wandb_there_is_no_run_id_and_no_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Tracker.open(tmp_path, config(), 3) as tracker:
        assert tracker.wandb_run_id is None
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "wandb").exists()


_BEGIN = """
    from pathlib import Path
    from orchestra_ray.config.enums import WandbMode
    from orchestra_ray.config.schema import Config
    from orchestra_ray.tracking import wandb_log
    from orchestra_ray.tracking.tracker import Tracker
    config = Config(name="a run")
    wandb_log.START_DEADLINE_S = 2.0
"""


def in_a_process(script: str, tmp_path: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs `script` with its own home, so that no W&B login of this machine applies."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_BEGIN) + textwrap.dedent(script)],
        env=kept | {"HOME": str(tmp_path), "WANDB_CONFIG_DIR": str(tmp_path / "config")} | environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


_AUTO = """
    with Tracker.open(Path("run"), config, 1) as tracker:
        tracker.step(1, {"reward_mean": 0.5})
"""


def test_auto_is_offline_without_a_key(tmp_path: Path) -> None:
    ended = in_a_process(_AUTO, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ""
    assert [line[:17] for line in ended.stderr.splitlines()] == ["W&B logs offline;"]


def test_auto_goes_online_with_a_key_and_falls_back_without_an_answer(tmp_path: Path) -> None:
    key = "0123456789abcdef0123456789abcdef01234567"
    ended = in_a_process(_AUTO, tmp_path, WANDB_API_KEY=key, WANDB_BASE_URL="http://127.0.0.1:9")
    assert ended.returncode == 0, ended.stderr
    first, second = ended.stderr.splitlines()
    assert first.startswith("W&B cannot go online, so it logs offline: ")
    assert second.startswith("W&B logs offline;")
    assert len(lines(tmp_path / "run" / "metrics.jsonl")) == 1
    written = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert [path for path in written if key.encode() in path.read_bytes()] == []


def test_the_run_goes_on_when_the_wandb_service_dies(tmp_path: Path) -> None:
    ended = in_a_process(
        """
        import psutil
        config.tracking.wandb = WandbMode.OFFLINE
        with Tracker.open(Path("run"), config, 3) as tracker:
            tracker.step(1, {"reward_mean": 0.5})
            services = psutil.Process().children(recursive=True)
            (core,) = [one for one in services if one.name() == "wandb-core"]
            core.kill()
            core.wait(10)
            for step in (2, 3, 4):
                tracker.step(step, {"reward_mean": 0.5})
            tracker.summary({"tasks": 1})
        print("ended well")
        """,
        tmp_path,
    )
    assert (ended.returncode, ended.stdout) == (0, "ended well\n"), ended.stderr
    assert ended.stderr.count("W&B is off from here on") == 1
    assert len(lines(tmp_path / "run" / "metrics.jsonl")) == 4
