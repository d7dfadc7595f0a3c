"""`orchestra tools describe`, with models behind a real server and with simulated experts."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.cli import main as cli
from orchestra_ray.data.catalogue import load_catalogue
from orchestra_ray.data.catalogue.parsers import INSTRUCTIONS, Parser

SUMS = "tasks.families=[{name: chain_sum, settings: {min_terms: 2, max_terms: 3, max_digits: 3}}]"
ENDPOINT = """
  - name: my-{model}
    description: not described yet
    backend: endpoint
    offered: false
    parser: {parser}
    prices: {{input_usd_per_mtok: 1, output_usd_per_mtok: {price}}}
    limits: {{retries: 0, deadline_s: 30, context_tokens: 8192, max_output_tokens: 64}}
    settings: {{base_urls: ["{url}"], model: {model}, api_key_env: CHAT_KEY}}
"""
CALL_USD = 120e-6  # of the writer: 100 tokens in and 20 out at a dollar a million


@pytest.fixture
def catalogue(tmp_path: Path, chat_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The simulated experts, and one endpoint entry for each behaviour of the server."""
    monkeypatch.setenv("CHAT_KEY", "key-of-the-test")
    entries = "".join(
        ENDPOINT.format(model=model, url=chat_url, price=price, parser=parser)
        for model, price, parser in (
            ("writer", 1, "text"),
            ("mute", 0.5, "text"),
            ("solver", 0.5, "boxed"),
            ("down", 0.5, "text"),
        )
    )
    text = Path("configs/catalogues/simulated.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("\ntools:", entries + "tools:"))
    return path


def describe(catalogue: Path, *options: str) -> int:
    config = ["--config", "configs/quickstart.yaml", f"catalogue.path={catalogue}", SUMS]
    return cli.main(["tools", "describe", *config, *options])


def seen(chat_url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{chat_url}/seen", timeout=5) as reply:
        return json.load(reply)


def rows(out: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}


def test_a_model_is_tried_on_tasks_and_described_in_a_copy(
    catalogue: Path, chat_url: str, capsys
) -> None:
    before = catalogue.read_text()
    assert describe(catalogue, "--model", "tally") == 0
    out, err = capsys.readouterr()
    copy = catalogue.with_name("mine_described.yaml")
    assert err == "" and f"written: {copy}" in out
    entries = load_catalogue(copy).entries
    written = entries["tally"].description
    right = int(written.split()[1])
    assert written == f"Right {right} of 10 times." and right >= 8  # its skill at sums is 0.97
    assert f"tally: {right} of 10 right\n  {written}\n" in out
    assert catalogue.read_text() == before
    for name, entry in load_catalogue(catalogue).entries.items():
        assert name == "tally" or entries[name] == entry
    # The writer's first answer was unusable, so it was asked twice; both calls are charged.
    charged = rows(out)["my-writer"]
    assert charged[1:4] == ["2", "200", "0"] and float(charged[6]) == 2 * CALL_USD
    assert rows(out)["total"][1] == "12"


def test_the_writer_sees_every_task_with_its_outcome_and_its_own_bad_answer(
    catalogue: Path, chat_url: str
) -> None:
    past = len(seen(chat_url))
    assert describe(catalogue, "--model", "pebble", "--tasks", "3") == 0
    first, second = seen(chat_url)[past:]
    assert first["key"] == "Bearer key-of-the-test"
    assert first["messages"][0]["content"].count("<record number=") == 3
    assert "It has its strengths." in second["messages"][0]["content"]
    assert "<assistant>" in second["messages"][0]["content"]


def test_a_model_behind_an_endpoint_is_instructed_how_to_mark_its_answer(
    catalogue: Path, chat_url: str, capsys
) -> None:
    past = len(seen(chat_url))
    options = ["--model", "my-solver", "--by", "my-writer", "--tasks", "4"]
    assert describe(catalogue, *options) == 0
    assert "my-solver: 4 of 4 right\n  Right 4 of 4 times.\n" in capsys.readouterr().out
    *solved, shown, _ = seen(chat_url)[past:]
    assert len(solved) == 4
    for body in solved:
        assert body["messages"][-1]["content"].endswith(INSTRUCTIONS[Parser.BOXED])
    assert shown["messages"][0]["content"].count("I add. \\boxed{") == 4


def test_without_names_every_offered_model_is_described_by_the_dearest_endpoint(
    catalogue: Path, tmp_path: Path
) -> None:
    out = tmp_path / "all.yaml"
    assert describe(catalogue, "--tasks", "1", "--out", str(out)) == 0
    models = load_catalogue(out).models.values()
    described = [entry.name for entry in models if entry.description.startswith("Right ")]
    assert described == ["nova", "orbit", "pebble", "tally", "sieve", "scribe"]


def test_the_spend_budget_holds_and_nothing_is_written(catalogue: Path, capsys) -> None:
    options = ["--model", "my-solver", "--by", "my-writer", "spend.run_calls=3"]
    assert describe(catalogue, *options) == 1
    out, err = capsys.readouterr()
    assert err == (
        "error: my-solver: 7 of 10 calls failed, the first with error: budget"
        " exhausted: 3 calls for the run; check that it can be called, or raise its limits\n"
    )
    assert rows(out)["my-solver"][-1] == "7"  # faults
    assert not catalogue.with_name("mine_described.yaml").exists()


@pytest.mark.parametrize(
    ("model", "by", "parts"),
    [
        ("my-down", "my-writer", ["10 of 10 calls failed", "500: out of order"]),
        ("nova", "my-down", ["my-down: it cannot describe nova", "500: out of order"]),
        ("nova", "my-mute", ["my-mute: its description of nova", "nothing between <desc", "--by"]),
    ],
)
def test_what_fails_is_one_line_and_the_others_go_on(
    catalogue: Path, capsys, model: str, by: str, parts: list[str]
) -> None:
    assert describe(catalogue, "--model", model, "--by", by) == 1
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and all(part in err for part in parts)
    assert "total" in out and "written" not in out


def test_a_failed_model_leaves_the_others_their_descriptions(catalogue: Path, capsys) -> None:
    assert describe(catalogue, "--model", "my-down", "--model", "nova", "--tasks", "2") == 1
    assert capsys.readouterr().err.startswith("error: my-down: ")
    copy = load_catalogue(catalogue.with_name("mine_described.yaml"))
    assert copy.entries["nova"].description.startswith("Right ")
    assert copy.entries["my-down"].description == "not described yet"


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--model", "none"], ["--model none", "choose from: nova"]),
        (["--by", "none"], ["--by none", "choose from: nova"]),
        (["--by", "nova", "--model", "tally"], ["--by nova", "simulated"]),
        (["--by", "my-writer", "--model", "my-writer"], ["described by another"]),
        (["--out", "{folder}/mine.yaml"], ["mine.yaml: the file exists"]),
        (["--out", "{folder}/no/mine.yaml"], ["no folder", "make it first"]),
        (["--tasks", "0"], ["--tasks", "'0'"]),
        (["catalogue.path=configs/catalogues/simulated.yaml"], ["--by", "endpoint"]),
    ],
)
def test_mistakes_are_reported_before_any_call(
    catalogue: Path, chat_url: str, capsys, options: list[str], parts: list[str]
) -> None:
    past = len(seen(chat_url))
    assert describe(catalogue, *(o.format(folder=catalogue.parent) for o in options)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and all(part in err for part in parts)
    assert len(seen(chat_url)) == past


def test_without_its_key_a_model_is_not_asked(
    catalogue: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CHAT_KEY")
    assert describe(catalogue, "--model", "nova") == 2
    assert "no CHAT_KEY; export it" in capsys.readouterr().err
