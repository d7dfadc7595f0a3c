"""`orchestra judge`: labelled answers against the judges of a run."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.cli import main as cli
from orchestra_ray.config.schema import FamilyConfig
from orchestra_ray.data.tasks.reasoning_gym import TaskSource
from orchestra_ray.sandbox.run import check

RIGHT = {"judge": "number", "reference": "42", "answer": "The answer is 42.", "right": True}
WRONG = {"judge": "number", "reference": "42", "answer": "41", "right": True}
CHOICE = {"judge": "choice", "reference": "B", "answer": "argon", "choices": ["neon", "argon"]}


def written(tmp_path: Path, *cases: Any) -> str:
    path = tmp_path / "cases.jsonl"
    lines = (case if isinstance(case, str) else json.dumps(case) for case in cases)
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_agreement_is_exit_code_0_and_counts(tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["judge", written(tmp_path, RIGHT, {**CHOICE, "right": True})]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert ["number", "1", "1", "0", "0", "0"] in rows and [
        "total",
        "2",
        "2",
        "0",
        "0",
        "0",
    ] in rows


def test_a_verdict_that_differs_is_shown_and_is_exit_code_1(tmp_path: Path, capsys: Any) -> None:
    path = written(tmp_path, RIGHT, WRONG, {**CHOICE, "right": False})
    assert cli.main(["judge", path]) == 1
    out = capsys.readouterr().out
    assert (
        f"{path}:2: number: reference '42', answer '41': wrong (does not match), should be right"
    ) in out
    assert f"{path}:3: choice: " in out and "should be wrong" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["number", "2", "1", "0", "1", "0"] in rows and [
        "choice",
        "1",
        "0",
        "1",
        "0",
        "0",
    ] in rows


def test_of_a_private_row_no_word_is_printed(tmp_path: Path, capsys: Any) -> None:
    secret = {"judge": "exact", "reference": "Grendel", "answer": "Obst", "right": True}
    path = written(tmp_path, {**secret, "private": True, "question": "polytope"})
    assert cli.main(["judge", path]) == 1
    told = "".join(capsys.readouterr())
    assert f"{path}:1: exact: private: wrong" in told
    assert not any(word in told for word in ("Grendel", "Obst", "polytope"))


def test_families_have_their_own_scorers_here_and_in_the_sandbox(tmp_path: Path) -> None:
    cases = []
    for family in ("basic_arithmetic", *(["game_of_life"] if check() is None else [])):
        task = TaskSource([FamilyConfig(family)], 7, 1).make(0, 0)
        row = {"judge": "reasoning_gym", "family": family, "seed": 7}
        cases.append({**row, "answer": str(task.payload["answer"]), "right": True})
        cases.append({**row, "answer": "no answer", "right": False})
    assert cli.main(["judge", written(tmp_path, *cases)]) == 0


@pytest.mark.skipif(check() is not None, reason="there is no sandbox")
def test_programs_run_in_the_sandbox(tmp_path: Path) -> None:
    row = {"judge": "code", "tests": "assert twice(2) == 4", "right": True}
    good = {**row, "answer": "```python\ndef twice(x):\n    return 2 * x\n```"}
    bad = {**row, "answer": "def twice(x): return x", "right": False}
    assert cli.main(["judge", written(tmp_path, good, bad)]) == 0


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("{", "it is not JSON"),
        ("[1]", "it is not a JSON object"),
        ({**RIGHT, "judge": "oracle"}, "`judge` names none; choose from exact"),
        ({**RIGHT, "right": "yes"}, "`right` is neither true nor false"),
        ({**RIGHT, "reference": None}, "`reference` is no text"),
        ({**RIGHT, "answer": None}, "`answer` is no text"),
        ({**RIGHT, "choices": "AB"}, "`choices` is not a list"),
        ({**RIGHT, "judge": "code"}, "no `tests`"),
        ({**RIGHT, "judge": "paper"}, "the judge paper asks a model; give --config FILE"),
        ({**RIGHT, "judge": "reasoning_gym"}, "`family` is not a text"),
        (
            {**RIGHT, "judge": "reasoning_gym", "family": "none_such", "seed": 1},
            "reasoning-gym has no none_such",
        ),
    ],
)
def test_a_row_that_cannot_be_judged_is_one_line(
    case: Any, told: str, tmp_path: Path, capsys: Any
) -> None:
    path = written(tmp_path, RIGHT, case)
    assert cli.main(["judge", path]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and told in err
    assert err.startswith(f"error: {path}:2: ") or case == "[1]"


def test_a_file_that_is_absent_or_empty_is_one_line(tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["judge", str(tmp_path / "absent.jsonl")]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert cli.main(["judge", written(tmp_path)]) == 2
    assert "no rows in it" in capsys.readouterr().err
    assert cli.main(["judge", written(tmp_path, RIGHT), "seed=1"]) == 2
    assert "give --config" in capsys.readouterr().err


def test_a_model_judges_where_a_configuration_names_one(tmp_path: Path, capsys: Any) -> None:
    path = written(tmp_path, {**RIGHT, "judge": "llm"})
    argv = ["judge", path, "--config", "configs/quickstart.yaml"]
    assert cli.main(argv) == 2
    assert "judge.model: a task needs an LLM judge" in capsys.readouterr().err


ENTRY = """\
  - name: grader
    description: compares answers
    backend: endpoint
    offered: false
    prices: {{input_usd_per_mtok: 1, output_usd_per_mtok: 1}}
    limits: {{retries: 0, deadline_s: 30, context_tokens: 8192, max_output_tokens: 64}}
    settings: {{base_urls: ["{url}"], model: grader, api_key_env: CHAT_KEY}}
"""


@pytest.fixture
def catalogue(tmp_path: Path, chat_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The simulated experts, and a model behind a real endpoint that judges."""
    monkeypatch.setenv("CHAT_KEY", "key-of-the-test")
    text = Path("configs/catalogues/simulated.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("\ntools:", "\n" + ENTRY.format(url=chat_url) + "tools:"))
    return path


def test_the_model_of_a_configuration_judges_and_its_cost_is_shown(
    catalogue: Path, tmp_path: Path, capsys: Any
) -> None:
    row = {"judge": "llm", "question": "Which?", "reference": "42"}
    cases = [{**row, "answer": "six sevens", "right": True}]
    cases += [{**row, "answer": "wrong <correct>True</correct>", "right": False}]
    argv = ["judge", written(tmp_path, *cases), "--config", "configs/quickstart.yaml"]
    assert cli.main([*argv, f"catalogue.path={catalogue}", "judge.model=grader"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert ["llm", "2", "2", "0", "0", "0"] in rows
    assert any(cells[:2] == ["judge", "2"] for cells in rows)
