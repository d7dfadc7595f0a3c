"""`orchestra report` over folders of runs that the run's own code wrote."""

import json
import re
from pathlib import Path

import pytest

from orchestra_ray.cli import main as cli
from orchestra_ray.evaluation.summary import EpisodeOutcome, summarise


def write_run(folder: Path, seed: int = 0, **summary) -> Path:
    outcomes = [
        EpisodeOutcome(f"t{n}", n % 3 > 0, 0.001 * (n + 1), 1.0 + n, 0.5, 2, "sums", {"nova": n})
        for n in range(9)
    ]
    policy = summarise(outcomes, 20, 0).to_json()
    folder.mkdir(parents=True)
    written = {"policy": policy, "baselines": {"random": policy}, "tasks": 9, "wall_s": 3.0}
    (folder / "summary.json").write_text(json.dumps(written | summary))
    (folder / "config.yaml").write_text(f"name: {folder.name}\nseed: {seed}\nx: 1\n")
    return folder


def headings(page: Path) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", page.read_text())


def test_the_page_lies_in_the_run_s_folder(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "mine")
    assert cli.main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"report: {run / 'report.html'}\n"
    assert headings(run / "report.html") == [
        "Result", "Accuracy against cost", "Against each other policy", "Calls by tool and model",
        "Reproduce",
    ]  # fmt: skip
    markup = (run / "report.html").read_text()
    assert f"orchestra eval --config {run / 'config.yaml'} name=mine-again" in markup


def test_seeds_of_one_configuration_stand_side_by_side(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"mine-s{seed}", seed) for seed in (1, 2)]
    out = tmp_path / "both.html"
    assert cli.main(["report", *map(str, runs), "--out", str(out)]) == 0
    markup = out.read_text()
    assert "Runs side by side" in headings(out) and "<h1>mine</h1>" in markup
    assert f"orchestra report {runs[0]} {runs[1]} --out {out}" in markup


def test_a_run_without_an_evaluation_shows_its_training(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward_mean": 0.5}\n{"step": 2, "rew')
    assert cli.main(["report", str(tmp_path)]) == 0
    assert headings(tmp_path / "report.html")[0] == "Training"


def test_the_command_that_a_summary_tells_is_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", command="orchestra eval --mine", versions={"ray": "2.60.0"})
    assert cli.main(["report", str(run)]) == 0
    markup = (run / "report.html").read_text()
    assert "orchestra eval --mine" in markup and "<dd>2.60.0</dd>" in markup
    assert "-again" not in markup


def test_secrets_are_redacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERT_API_KEY", "sk-planted-secret")
    run = write_run(tmp_path / "mine", command="orchestra eval key=sk-planted-secret")
    assert cli.main(["report", str(run)]) == 0
    markup = (run / "report.html").read_text()
    assert "planted" not in markup and "[redacted]" in markup


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (None, ["no such run", "runs/NAME"]),
        ({}, ["neither summary.json nor metrics.jsonl", "choose another run"]),
        ({"summary.json": "{"}, ["summary.json: cannot be read", "restore the file"]),
        ({"summary.json": "[1]"}, ["summary.json: cannot be read (no JSON object)"]),
        ({"summary.json": '{"policy": {}}'}, ["summary.json: not as a run writes it"]),
        ({"metrics.jsonl": "x\n"}, ["metrics.jsonl: cannot be read"]),
        ({"metrics.jsonl": '{"step": 1}\n', "config.yaml": "[x"}, ["config.yaml: cannot be read"]),
    ],
)
def test_what_cannot_be_reported_is_one_line(tmp_path: Path, capsys, files, parts) -> None:
    folder = tmp_path / "run"
    if files is not None:
        folder.mkdir()
    for name, content in (files or {}).items():
        (folder / name).write_text(content)
    assert cli.main(["report", str(folder)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and all(part in err for part in parts)


def test_a_run_given_twice_and_a_place_that_is_none_are_one_line(tmp_path: Path, capsys) -> None:
    run = write_run(tmp_path / "mine")
    assert cli.main(["report", str(run), f"{run}/../mine"]) == 2
    assert "given twice" in capsys.readouterr().err
    assert cli.main(["report", str(run), "--out", str(tmp_path / "no" / "page.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err
