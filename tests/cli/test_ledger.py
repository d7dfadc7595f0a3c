"""`orchestra ledger` over a ledger that the run's own code wrote."""

from dataclasses import replace
from pathlib import Path

import pytest

from orchestra_ray.cli import main as cli
from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import Caller, LedgerEntry
from orchestra_ray.spend.ledger import FOLDER, Ledger

ENTRY = LedgerEntry(
    call_id="e/0/1",
    caller=Caller(1, "g", "g/0", 2),
    identity="nova",
    alias="model-1",
    kind="model",
    price_sheet="prices@1",
    usage=Usage(1_100, 40, 30, 20),
    charged_nanousd=1_000_000_001,
    service_s=1.5,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    ledger = Ledger("mine", folder / FOLDER)
    ledger.add([ENTRY, replace(ENTRY, error="timeout", caller=Caller(0, "h", "h/0", 0))])
    assert ledger.flush() is None
    ledger.add([replace(ENTRY, identity="calc", kind="tool", charged_nanousd=0, saved_nanousd=5)])
    assert ledger.flush() is None  # a second file
    return folder


def printed(run: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[list[str]]:
    assert cli.main(["ledger", str(run), *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return [line.split() for line in out.splitlines() if line.strip()]


def test_it_prints_a_line_a_model_and_an_exact_total(run: Path, capsys) -> None:
    _, _, nova, calc, total = printed(run, capsys)
    in_and_out = ["2,200", "80", "60", "40"]
    assert nova == ["nova", "2", *in_and_out, "2.000000002", "0.000000000", "0.0", "3.0", *"00201"]
    assert calc[:2] == ["calc", "1"] and calc[7] == "0.000000005"
    assert total[:2] == ["total", "3"] and total[6:8] == ["2.000000002", "0.000000005"]


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("tool", ["ask", "calc"]),
        ("step", ["measured", "1"]),
        ("episode", ["g/0", "h/0"]),
        ("error", ["none", "timeout"]),
    ],
)
def test_lines_stand_for_what_was_asked(run: Path, capsys, by: str, names: list[str]) -> None:
    head, _, *lines, total = printed(run, capsys, "--by", by)
    assert (head[0], [line[0] for line in lines], total[1]) == (by, names, "3")


def test_beyond_the_top_all_are_one_line(run: Path, capsys) -> None:
    _, _, others, total = printed(run, capsys, "--top", "1")
    assert others[:3] == ["2", "others", "3"] and total[1] == "3"


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda folder: None, ["absent: no such run", "runs/NAME"]),
        (lambda folder: folder.mkdir(), ["absent/ledger: no ledger", "choose another run"]),
    ],
)
def test_without_a_ledger_it_says_so_in_one_line(tmp_path: Path, capsys, make, parts) -> None:
    folder = tmp_path / "absent"
    make(folder)
    assert cli.main(["ledger", str(folder)]) == 2
    _, err = capsys.readouterr()
    assert err.count("\n") == 1 and all(part in err for part in parts)


def test_a_file_that_is_no_ledger_is_named_in_one_line(tmp_path: Path, capsys) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "part-000001.parquet").write_text("half a file")
    assert cli.main(["ledger", str(tmp_path)]) == 2
    _, err = capsys.readouterr()
    assert err.count("\n") == 1 and "cannot be read" in err
