"""`orchestra tools list`: entries, prices, and what is absent on this machine."""

import socket
from pathlib import Path

import pytest

from orchestra_ray.cli import main as cli

CONFIG = ["--config", "configs/quickstart.yaml"]
PAPER = "catalogue.path=configs/catalogues/paper.yaml"
SECRET = "tvly-of-the-test"


def printed(capsys: pytest.CaptureFixture[str], *overrides: str, code: int = 0) -> dict[str, str]:
    """The printed lines by their first word."""
    assert cli.main(["tools", "list", *CONFIG, *overrides]) == code
    out, err = capsys.readouterr()
    assert err == ""
    return {line.split()[0]: " ".join(line.split()) for line in out.splitlines() if line.strip()}


def test_every_entry_has_a_row(capsys) -> None:
    rows = printed(capsys)
    assert rows["nova"] == "nova model simulated none $40 per M tokens by chance yes 60"
    assert rows["calculator"] == "calculator tool calculator none free by chance yes 0.1"
    assert rows["prices:"].startswith("prices: simulated@")


def test_what_is_absent_says_why(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-test")
    monkeypatch.delenv("TAVILY_API_KEY", raising=False)
    rows = printed(capsys, PAPER)
    assert " yes " in rows["gpt-5"] and "$1.25/$10 per M tokens" in rows["gpt-5"]
    assert rows["tavily"] == "tavily tool web_search none $0.01 a search never no 3"
    assert "TAVILY_API_KEY is not set; export a key" in rows["web"]
    assert "those of its 4 models always" in rows["code"]


def test_what_reaches_outside_is_tried_on_demand(
    capsys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TAVILY_API_KEY", SECRET)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        path = tmp_path / "mine.yaml"
        path.write_text(
            "models: [{name: far, description: d, backend: endpoint, settings: {model: m,"
            f" base_urls: ['http://127.0.0.1:{port}/v1']}}}}]\n"
            "tools: [{name: web, description: d, backend: web_search}]\n"
        )
        untried = printed(capsys, f"catalogue.path={path}")
        tried = printed(capsys, f"catalogue.path={path}", "--probe", code=1)
    assert " yes (not tried) " in untried["far"] and " yes (not tried) " in untried["web"]
    assert " no (http://127.0.0.1" in tried["far"] and "ConnectError" in tried["far"]
    assert " yes (not tried) " in tried["web"]


def test_no_key_is_ever_printed(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAVILY_API_KEY", SECRET)
    rows = printed(capsys, PAPER)
    assert " yes " in rows["tavily"] and not any(SECRET in row for row in rows.values())


def test_price_sheets_are_named(capsys) -> None:
    sheet = "catalogue.price_sheets=[configs/catalogues/prices_together.yaml]"
    assert "prices_together@" in printed(capsys, PAPER, sheet)["toolsets"]
