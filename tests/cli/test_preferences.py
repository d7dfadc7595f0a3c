"""`orchestra preferences make`, by templates and with models behind a real server."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.cli import main as cli
from orchestra_ray.data.preferences.load import Split, read_pairs

ENDPOINT = """
  - name: my-{model}
    description: writes
    backend: endpoint
    offered: false
    prices: {{input_usd_per_mtok: 1, output_usd_per_mtok: 1}}
    limits: {{retries: 0, deadline_s: 30, context_tokens: 8192, max_output_tokens: 2048}}
    settings: {{base_urls: ["{url}"], model: {model}, api_key_env: CHAT_KEY}}
"""
CALL_USD = 120e-6  # 100 tokens in and 20 out at a dollar a million
WRITERS = ["--by", "my-proposer", "--validator", "my-checker"]


@pytest.fixture
def catalogue(tmp_path: Path, chat_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The simulated experts, and a model for each thing that the server can do."""
    monkeypatch.setenv("CHAT_KEY", "key-of-the-test")
    models = ("proposer", "checker", "hasty", "mute", "down")
    entries = "".join(ENDPOINT.format(model=model, url=chat_url) for model in models)
    text = Path("configs/catalogues/simulated.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("\ntools:", entries + "tools:"))
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "made.jsonl"


def make(catalogue: Path, out: Path, *options: str) -> int:
    config = ["--config", "configs/quickstart.yaml", f"catalogue.path={catalogue}"]
    config += ["catalogue.aliases=false"]
    return cli.main(["preferences", "make", *config, "--out", str(out), *options])


def seen(chat_url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{chat_url}/seen", timeout=5) as reply:
        return json.load(reply)


def rows(out: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}


def test_templates_need_no_model_and_the_seed_decides(
    catalogue: Path, out: Path, chat_url: str, capsys
) -> None:
    past = len(seen(chat_url))
    assert make(catalogue, out, "--count", "200") == 0
    text, err = capsys.readouterr()
    assert err == "" and f"written: {out}; catalogue.preferences_path={out} uses it" in text
    assert rows(text)["total"][1:] == ["140", "20", "20", "20"]
    again, other = out.with_name("again.jsonl"), out.with_name("other.jsonl")
    assert make(catalogue, again, "--count", "200") == 0
    assert make(catalogue, other, "--count", "200", "seed=1") == 0
    assert out.read_text() == again.read_text() != other.read_text()
    assert len(seen(chat_url)) == past


def test_one_model_writes_another_checks_and_the_rest_is_counted(
    catalogue: Path, out: Path, chat_url: str, capsys
) -> None:
    past = len(seen(chat_url))
    assert make(catalogue, out, *WRITERS, "--count", "8", "catalogue.aliases=true") == 0
    text, err = capsys.readouterr()
    pairs = read_pairs(out)
    instructions = {pair.preference.instruction for pair in pairs}
    assert err == "" and len(pairs) == len(instructions) == 9
    # Of each answer: a weight above 1, a tool that there is not, and no object; nova by name;
    # one without weight on the money of which it speaks; "Be cheap." once more.
    assert "kept 9; dropped: 6 malformed, 2 naming a hidden model" in text
    assert "3 duplicate" in text and "2 inconsistent" in text
    assert {pair.split for pair in pairs} >= {Split.TRAIN, Split.NEW_WORDING}
    first, check, *_ = asked = seen(chat_url)[past:]
    assert [one["model"] for one in asked] == ["proposer", "checker"] * 2
    assert "names no model" in first["messages"][0]["content"]
    assert "nova (model): strong at all; $40 per M tokens, 60 s" in first["messages"][0]["content"]
    assert check["messages"][0]["content"].count("<pair number=") == 6
    for model in ("my-proposer", "my-checker"):
        charged = rows(text)[model]
        assert charged[1] == "2" and float(charged[6]) == pytest.approx(2 * CALL_USD)


def test_where_names_are_shown_an_instruction_may_hold_them(
    catalogue: Path, out: Path, capsys
) -> None:
    assert make(catalogue, out, *WRITERS, "--count", "6") == 0
    assert "Ask nova only." in {pair.preference.instruction for pair in read_pairs(out)}
    assert "hidden" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("by", "validator", "parts"),
    [
        ("my-down", "my-checker", ["my-down", "500: out of order"]),
        ("my-proposer", "my-down", ["my-down", "500: out of order"]),
        ("my-mute", "my-checker", ["all that my-mute proposed was dropped"]),
        ("my-proposer", "my-mute", ["all that my-proposer proposed was dropped"]),
        ("my-proposer", "my-hasty", ["all that my-proposer proposed was dropped"]),
    ],
)
def test_without_a_pair_nothing_is_written_and_it_is_told_why(
    catalogue: Path, out: Path, capsys, by: str, validator: str, parts: list[str]
) -> None:
    assert make(catalogue, out, "--by", by, "--validator", validator, "--count", "4") == 2
    text, err = capsys.readouterr()
    assert err.count("\n") == 1 and all(part in err for part in parts), err
    assert "kept 0; dropped: " in text and not out.exists()


def test_the_spend_guard_holds_and_what_was_paid_for_is_kept(
    catalogue: Path, out: Path, capsys
) -> None:
    assert make(catalogue, out, *WRITERS, "--count", "500", "spend.run_calls=4") == 0
    text = capsys.readouterr().out
    assert len(read_pairs(out)) == 10 and "5 failed" in text
    assert sum(int(rows(text)[name][-1]) for name in ("my-proposer", "my-checker")) > 0


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--by", "my-proposer"], ["--by: one model writes", "--validator"]),
        (["--validator", "my-checker"], ["--validator: one model writes", "--by"]),
        (["--by", "none", "--validator", "my-checker"], ["--by none", "choose from: nova"]),
        (["--by", "my-proposer", "--validator", "nova"], ["--validator nova", "simulated"]),
        (["--by", "my-checker", "--validator", "my-checker"], ["checked by another"]),
        (["--count", "0"], ["--count", "'0'"]),
        (["--count", "9"], ["--count 9: four splits need 10"]),
        (["--out", "{folder}/mine.yaml"], ["mine.yaml: the file exists"]),
        (["--out", "{folder}/no/made.jsonl"], ["no folder", "make it first"]),
    ],
)
def test_mistakes_are_told_before_anything_is_called(
    catalogue: Path, out: Path, chat_url: str, capsys, options: list[str], parts: list[str]
) -> None:
    past = len(seen(chat_url))
    assert make(catalogue, out, *(o.format(folder=catalogue.parent) for o in options)) == 2
    text, err = capsys.readouterr()
    assert text == "" and err.count("\n") == 1 and all(part in err for part in parts), err
    assert len(seen(chat_url)) == past and not out.exists()
