"""`--dry-run`: a prediction in place of a run, on the terminal."""

import subprocess
import sys
from pathlib import Path

import pytest

from orchestra_ray.cli import main as cli

QUICKSTART = ["--config", "configs/quickstart.yaml"]


def printed(capsys: pytest.CaptureFixture[str], command: str, *options: str) -> str:
    assert cli.main([command, *QUICKSTART, "--dry-run", *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_it_predicts_and_leaves_nothing_behind(capsys, tmp_path: Path) -> None:
    out = printed(capsys, "train", f"runs_dir={tmp_path}", "evaluation.tasks=0")
    assert out.startswith("quickstart: 3,840 episodes of training, 0 measured; nothing is started")
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
    assert {"nova", "pebble", "calculator", "policy", "total", "Limits", "Assumed"} <= rows.keys()
    low, expected, high = (float(text.replace(",", "")) for text in rows["total"][-3:])
    assert 0 < low < expected < high < float(rows["At"][-1].lstrip("$"))
    assert not list(tmp_path.iterdir())


def test_an_evaluation_is_predicted_without_training(capsys) -> None:
    assert "0 episodes of training, 1,000 measured" in printed(capsys, "eval")


def test_calls_can_be_given(capsys) -> None:
    assert "1 (low), 3 (expected" in printed(capsys, "eval", "--calls", "3")


def test_limits_are_set_against_what_they_hold_back(capsys) -> None:
    limits = ["spend.run_usd=0.5", "spend.episode_usd=100", "spend.call_usd=0.02"]
    out = printed(capsys, "train", *limits)
    assert "spend.run_usd 0.5: reached in the low case" in out
    assert "spend.episode_usd 100: not reached" in out
    assert "no call of nova is granted: it may cost $0.0" in out
    assert "  none:" not in out


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--dry-run", "--calls", "9"], ["--calls 9", "4 turns", "rollout.max_turns"]),
        (["--dry-run", "--calls", "nan"], ["--calls nan"]),
        (["--calls", "2"], ["--calls", "--dry-run"]),
        (["--dry-run", "catalogue.path=no.yaml"], ["no.yaml", "catalogue.path"]),
        (["--dry-run", "tasks.families=[{name: none_such}]"], ["none_such"]),
    ],
)
def test_mistakes_are_one_line(capsys, options: list[str], parts: list[str]) -> None:
    assert cli.main(["train", *QUICKSTART, *options]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert all(part in err for part in parts)


def test_neither_ray_nor_torch_is_needed() -> None:
    code = (
        "import sys\nfrom orchestra_ray.cli.main import main\n"
        f"assert main(['train', *{QUICKSTART!r}, '--dry-run']) == 0\n"
        "assert not {'ray', 'torch', 'transformers'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
