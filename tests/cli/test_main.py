"""The command line: help and mistakes in one line, exit codes, and no Ray before it is needed."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import orchestra_ray
from orchestra_ray.cli import doctor, findings
from orchestra_ray.cli import main as cli
from orchestra_ray.cli.findings import Finding, Verdict
from orchestra_ray.core.errors import ReportedError

REPOSITORY = Path(__file__).parents[2]
QUICKSTART = str(REPOSITORY / "configs/quickstart.yaml")
PAPER = str(REPOSITORY / "configs/paper_qwen3_8b.yaml")
HEAVY = ("ray", "torch", "vllm", "deepspeed", "transformers")

# Runs every argument list of stdin in one process; prints the outcome of each.
DRIVER = f"""
import contextlib, io, json, sys
from orchestra_ray.cli.main import main
for argv in json.load(sys.stdin):
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        code = main(argv)
    print(json.dumps([code, err.getvalue(), [m for m in {HEAVY!r} if m in sys.modules]]))
"""


@pytest.fixture(scope="module")
def listening_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def mistakes(
    tmp_path_factory: pytest.TempPathFactory, listening_port: int
) -> dict[str, tuple[list[str], list[str]]]:
    """Every kind of bad input: the arguments, and parts of the one line."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "runs" / "taken").mkdir(parents=True)
    dear = (REPOSITORY / "configs/catalogues/simulated.yaml").read_text()
    (folder / "dear.yaml").write_text(
        dear.replace("input_usd_per_mtok: 40", "input_usd_per_mtok: -40", 1)
    )
    (folder / "syntax.yaml").write_text("name: [x\n")
    small = [f"runs_dir={folder}/runs", "rollout.cpus_per_worker=0.1", "learner.cpus_per_rank=0.1"]

    def quickstart(*overrides: str) -> list[str]:
        return ["train", "--config", QUICKSTART, *small, "name=fresh", *overrides]

    preference = "{name: a, instruction: b, outcome: 1.5}"
    return {
        "unknown command": (["trian"], ["trian", "--help"]),
        "no configuration": (["train"], ["--config", "orchestra train --help"]),
        "unknown option": (quickstart("--fast"), ["--fast", "orchestra train --help"]),
        "an override with dashes": (
            quickstart("--training.steps=1"),
            ["an override has no dashes: training.steps=1"],
        ),
        "an override for doctor": (["doctor", "a=1"], ["a=1"]),
        "no such grouping": (["ledger", "runs/x", "--by", "day"], ["--by", "model", "--help"]),
        "no such run": (["ledger", f"{folder}/runs/gone"], ["runs/gone: no such run"]),
        "tools alone": (["tools"], ["command", "orchestra tools --help"]),
        "no such model to describe": (
            ["tools", "describe", "--config", QUICKSTART, "--by", "none"],
            ["--by none: no such model", "choose from: nova"],
        ),
        "no lines": (["ledger", "runs/x", "--top", "0"], ["--top", "'0'"]),
        "unknown key": (quickstart("learner.rl=1"), ["learner.rl", "did you mean learner.lr?"]),
        "wrong type": (quickstart("training.steps=ten"), ["training.steps", "a whole number"]),
        "not key=value": (quickstart("learner.lr"), ["'learner.lr'", "training.steps=10"]),
        "missing file": (["train", "--config", "no.yaml"], ["no.yaml: no such file"]),
        "YAML": (["train", "--config", f"{folder}/syntax.yaml"], ["syntax.yaml:2:1"]),
        "missing catalogue": (quickstart("catalogue.path=no.yaml"), ["catalogue.path: no.yaml"]),
        "missing model": (
            quickstart("model.tiny=null", f"model.path={folder}/absent"),
            ["model.path", f"{folder}/absent does not exist"],
        ),
        "a folder that is no model": (
            quickstart("model.tiny=null", f"model.path={folder}"),
            ["model.path", "config.json", "Hugging Face"],
        ),
        "a model that the hub does not give": (
            ["train", "--config", PAPER, f"runs_dir={folder}/runs"],
            ["model.path", "Qwen/Qwen3-8B is no folder here", "(OfflineModeIsEnabled)"],
        ),
        "negative price": (quickstart("model.input_usd_per_mtok=-1"), ["input_usd_per_mtok: -1"]),
        "negative price in the catalogue": (
            quickstart(f"catalogue.path={folder}/dear.yaml"),
            ["dear.yaml", "nova", "input_usd_per_mtok", "negative"],
        ),
        "preference": (
            quickstart(f"catalogue.preferences=[{preference}]"),
            ["catalogue.preferences[0].outcome: 1.5", "[0, 1]"],
        ),
        "no family": (quickstart("tasks.families=[]"), ["tasks.families", "no family"]),
        "a family without tasks": (
            quickstart("tasks.families=[{name: no_such_family}]"),
            ["tasks.families", "no_such_family"],
        ),
        "more resources than there are": (
            quickstart("cluster.cpus=2", "rollout.workers=100"),
            ["CPUs, the cluster has 2; lower rollout.workers"],
        ),
        "port in use": (
            quickstart(f"cluster.dashboard_port={listening_port}"),
            ["cluster.dashboard_port", str(listening_port), "choose a free port"],
        ),
        "run folder": (quickstart("name=taken"), ["runs/taken exists", "choose another name"]),
    }


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def assert_one_line(text: str, parts: list[str]) -> None:
    assert text.startswith("error: ")
    assert text.count("\n") == 1 and text.endswith("\n")
    for part in parts:
        assert part in text


def test_bad_input_is_one_line_and_exit_code_2(mistakes, offline, capsys):
    for name, (argv, parts) in mistakes.items():
        assert cli.main(argv) == 2, name
        out, err = capsys.readouterr()
        assert out == ""
        assert_one_line(err, parts)


def test_bad_input_is_refused_before_ray_or_torch_is_imported(mistakes):
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        input=json.dumps([argv for argv, _ in mistakes.values()]),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=REPOSITORY,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for (argv, parts), (code, err, heavy) in zip(mistakes.values(), answers, strict=True):
        assert (code, heavy) == (2, []), argv
        assert_one_line(err, parts)


def test_eval_and_plan_refuse_the_same_configurations(mistakes, capsys):
    for command in ("eval", "plan"):
        argv, parts = mistakes["unknown key"]
        assert cli.main([command, *argv[1:]]) == 2
        assert_one_line(capsys.readouterr().err, parts)


def test_the_installed_command_fails_in_one_line(tmp_path):
    command = [Path(sys.executable).with_name("orchestra"), "plan", "--config", "absent.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 2
    assert_one_line(done.stderr, ["absent.yaml: no such file"])


def test_debug_shows_the_traceback_above_the_line(mistakes, capsys):
    argv, parts = mistakes["unknown key"]
    assert cli.main([*argv, "--debug"]) == 2
    *trace, last = capsys.readouterr().err.splitlines()
    assert trace[0].startswith("Traceback")
    assert_one_line(f"{last}\n", parts)


@pytest.mark.parametrize(
    "argv",
    [
        ["--help"],
        ["train", "--help"],
        ["eval", "-h"],
        ["plan", "-h"],
        ["ledger", "-h"],
        ["judge", "-h"],
        ["doctor", "-h"],
        ["tools", "-h"],
        ["tools", "list", "-h"],
        ["tools", "describe", "-h"],
    ],
)
def test_help_is_printed_without_heavy_imports(argv):
    code = (
        "import sys\nfrom orchestra_ray.cli.main import main\n"
        f"try:\n    main({argv!r})\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        f"assert not [m for m in {(*HEAVY, 'omegaconf', 'pyarrow', 'rich')!r} if m in sys.modules]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "usage: orchestra" in done.stdout


@pytest.mark.parametrize(
    "command",
    ["train", "eval", "plan", "ledger", "judge", "tools", "tools list", "tools describe", "doctor"],
)
def test_every_command_s_help_has_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert f"example: orchestra {command}" in capsys.readouterr().out


def test_plan_prints_the_paper_s_bundles_without_importing_ray():
    code = (
        "import sys\nfrom orchestra_ray.cli.main import main\n"
        f"assert main(['plan', '--config', {PAPER!r}, 'learner.ranks=4']) == 0\n"
        f"assert not [m for m in {HEAVY!r} if m in sys.modules]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("paper_qwen3_8b: ")
    assert "12 GPUs" in done.stdout


def test_overrides_stand_anywhere_among_the_options(capsys):
    argv = [
        "plan",
        "training.steps=3",
        "--config",
        QUICKSTART,
        "name=first",
        "--debug",
        "name=last",
    ]
    assert cli.main(argv) == 0
    assert capsys.readouterr().out.startswith("last: ")


def test_a_later_file_overrides_an_earlier_one(tmp_path, capsys):
    extra = tmp_path / "extra.yaml"
    extra.write_text("name: other\n")
    assert cli.main(["plan", "--config", QUICKSTART, "--config", str(extra)]) == 0
    assert capsys.readouterr().out.startswith("other: ")


def test_another_failure_is_one_line_and_exit_code_1(monkeypatch, capsys):
    def fail(options):
        raise RuntimeError("the disk\nis full")

    monkeypatch.setattr(doctor, "doctor", fail)
    assert cli.main(["doctor"]) == 1
    assert capsys.readouterr().err == (
        "error: RuntimeError: the disk is full; --debug shows where\n"
    )
    assert cli.main(["doctor", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_what_another_process_reports_is_one_line_without_secrets(monkeypatch, capsys):
    def fail(options):
        raise ReportedError("it died; last error in its log: bad key sesame-open; log: /x.err")

    monkeypatch.setenv("MY_API_KEY", "sesame-open")
    monkeypatch.setattr(doctor, "doctor", fail)
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().err
    assert said.endswith("last error in its log: bad key [redacted]; log: /x.err\n")


def test_an_interrupt_is_exit_code_130(monkeypatch, capsys):
    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "doctor", interrupt)
    assert cli.main(["doctor"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


@pytest.mark.parametrize(("command", "function"), [("train", "train"), ("eval", "evaluate")])
def test_a_run_gets_the_loaded_configuration_and_its_folder_is_printed(
    monkeypatch, capsys, tmp_path, command, function
):
    def run(config, *resume):
        return SimpleNamespace(folder=tmp_path / config.name)

    monkeypatch.setattr(orchestra_ray, function, run)
    assert cli.main([command, "--config", QUICKSTART, "name=mine"]) == 0
    assert capsys.readouterr().out == f"run folder: {tmp_path}/mine\n"


@pytest.mark.parametrize("command", [["train", "--dry-run"], ["tools", "describe"]])
@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_no_error_line_and_no_traceback_tells_a_password(
    command: list[str],
    debug: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ODDLY_NAMED", "kX9vQ2mL8zR4tY7wB3nC")
    catalogue = (REPOSITORY / "configs/catalogues/simulated.yaml").read_text()
    entry = """
  - name: far
    description: kX9vQ2mL8zR4tY7wB3nC
    backend: endpoint
    settings: {model: far, base_urls: ["https//user:s3 cr3t@[host"]}
tools:"""
    path = tmp_path / "catalogue.yaml"
    path.write_text(catalogue.replace("\ntools:", entry, 1))
    code = cli.main([*command, *debug, "--config", QUICKSTART, f"catalogue.path={path}"])
    told = capsys.readouterr()
    assert code == cli.BAD_INPUT and "base_url [redacted]@[host: write it like" in told.err
    assert "cr3t" not in told.out + told.err and ("Traceback" in told.err) == bool(debug)
    assert cli.main(["tools", "list", "--config", QUICKSTART, f"catalogue.path={path}"]) == 0
    told = capsys.readouterr()
    assert "far" in told.out and "kX9vQ2mL8zR4tY7wB3nC" not in told.out and "cr3t" not in told.out


def test_what_a_command_prints_is_free_of_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODDLY_NAMED", "kX9vQ2mL8zR4tY7wB3nC")
    found = [Finding("kX9vQ2mL8zR4tY7wB3nC", Verdict.OK, "at postgres://u:s3cr3t@host/db")]
    monkeypatch.setattr(findings, "findings", lambda config: found)
    assert cli.main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("[redacted]") and told.endswith("at postgres://[redacted]@host/db\n")


def test_an_unexpected_error_is_told_without_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "planted one\nplanted two")

    def broken(config: object) -> list[Finding]:
        raise RuntimeError(f"refused {os.environ['A_KEY']} and Bearer abcdefghijklmnop12")

    monkeypatch.setattr(findings, "findings", broken)
    assert cli.main(["doctor", "--debug"]) == cli.FAILED
    told = capsys.readouterr().err
    assert "planted" not in told and "abcdefghijklmnop12" not in told and "Traceback" in told
