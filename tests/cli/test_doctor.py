"""`orchestra doctor`: what a machine has and lacks, its exit code, and no key in its output."""

import os
import tempfile
from pathlib import Path

import pytest

from orchestra_ray.cli import findings
from orchestra_ray.cli import main as cli
from orchestra_ray.cli.findings import Finding, Verdict

QUICKSTART = "configs/quickstart.yaml"


@pytest.mark.parametrize(("verdict", "code"), [(Verdict.NOTE, 0), (Verdict.FAIL, 1)])
def test_doctor_exits_1_only_where_no_run_works(monkeypatch, capsys, verdict, code):
    found = [Finding("CPUs", Verdict.OK, "2"), Finding("sandbox", verdict, "no bubblewrap")]
    monkeypatch.setattr(findings, "findings", lambda config: iter(found))
    assert cli.main(["doctor"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["CPUs", "ok"], ["sandbox", verdict]]


def test_doctor_takes_overrides_of_the_configuration_that_it_is_given(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(findings, "findings", lambda config: seen.append(config) or iter(()))
    assert cli.main(["doctor", "--config", QUICKSTART, "learner.lr=0.5"]) == 0
    assert seen[0].learner.lr == 0.5
    assert cli.main(["doctor", "learner.lr=0.5"]) == 2
    assert "give --config" in capsys.readouterr().err


def test_doctor_reports_a_broken_import_with_its_reason(monkeypatch):
    monkeypatch.setattr(findings, "MODULES", ("json", "no_such_module"))
    by_subject = {finding.subject: finding for finding in findings.findings()}
    assert by_subject["import json"].verdict is Verdict.OK
    assert by_subject["import no_such_module"].verdict is Verdict.FAIL
    assert "No module named 'no_such_module'" in by_subject["import no_such_module"].detail


def test_doctor_says_what_to_install_where_bubblewrap_is_absent(monkeypatch, tmp_path):
    monkeypatch.setattr(findings, "MODULES", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    by_subject = {finding.subject: finding for finding in findings.findings()}
    assert by_subject["sandbox"].verdict is Verdict.NOTE
    assert "apt install bubblewrap" in by_subject["sandbox"].detail
    assert "apt install g++" in by_subject["C++ compiler"].detail


def test_doctor_notes_a_sandbox_that_is_refused(monkeypatch):
    monkeypatch.setattr(findings, "MODULES", ())
    with tempfile.TemporaryDirectory() as folder:  # the sandbox starts as nobody, who may read it
        Path(folder).chmod(0o755)
        refusing = Path(folder) / "bwrap"
        refusing.write_text("#!/bin/sh\necho 'No permissions to create namespace' >&2\nexit 1\n")
        refusing.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        by_subject = {finding.subject: finding for finding in findings.findings()}
    assert by_subject["sandbox"].verdict is Verdict.NOTE
    assert "No permissions to create namespace" in by_subject["sandbox"].detail
    assert "allow user namespaces" in by_subject["sandbox"].detail


def test_doctor_tells_keys_that_are_set_and_never_what_they_are(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(findings, "MODULES", ())
    monkeypatch.setenv("TAVILY_API_KEY", "tvly-of-the-test")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    for name in ("TOGETHER_API_KEY", "NVIDIA_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    config = tmp_path / "mine.yaml"
    config.write_text("catalogue: {path: configs/catalogues/paper.yaml}\n")
    assert cli.main(["doctor", "--config", QUICKSTART, "--config", str(config)]) == 1
    out = capsys.readouterr().out
    assert "of-the-test" not in out
    lines = {line.split()[0]: line.split() for line in out.splitlines()}
    verdicts = {name: words[1] for name, words in lines.items() if name.endswith("_KEY")}
    assert verdicts == {
        "TAVILY_API_KEY": "ok",
        "OPENAI_API_KEY": "ok",
        "TOGETHER_API_KEY": "fail",
        "NVIDIA_API_KEY": "fail",
    }
    assert lines["OPENAI_API_KEY"][2:] == ["set,", "for", "gpt-5,", "gpt-5-mini"]


def test_doctor_notes_what_is_optional(monkeypatch):
    monkeypatch.setattr(findings, "MODULES", ())
    monkeypatch.setattr(findings, "has_faiss", lambda: False)
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    by_subject = {finding.subject: finding for finding in findings.findings()}
    assert by_subject["TAVILY_API_KEY"].verdict is Verdict.NOTE
    assert "tavily.com" in by_subject["TAVILY_API_KEY"].detail
    assert by_subject["dense search"].verdict is Verdict.NOTE
    assert "orchestra-ray[dense]" in by_subject["dense search"].detail


def test_doctor_and_the_code_tool_agree_on_the_sandbox(monkeypatch):
    monkeypatch.setattr(findings, "MODULES", ())
    from orchestra_ray.sandbox.run import check

    by_subject = {finding.subject: finding for finding in findings.findings()}
    expected = Verdict.OK if check() is None else Verdict.NOTE
    assert by_subject["sandbox"].verdict is expected
