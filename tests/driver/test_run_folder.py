from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from orchestra_ray.config import Config
from orchestra_ray.core.money import Usage
from orchestra_ray.driver.run_folder import INPUTS, copy_inputs, releasing_unused_name
from orchestra_ray.workers.tools.replay.store import CassetteStore, Key, Recorded

FIGURES = "metrics.jsonl"


def test_a_run_keeps_what_it_was_given_without_secrets(quickstart: Config, tmp_path: Path) -> None:
    sheets = [tmp_path / "a" / "sheet.yaml", tmp_path / "b" / "sheet.yaml"]
    for sheet in sheets:
        sheet.parent.mkdir()
        sheet.write_text(f"prices: {sheet.parent.name} hidden")
    given = replace(quickstart.catalogue, price_sheets=[str(sheet) for sheet in sheets])
    config = replace(quickstart, catalogue=given)
    (run := tmp_path / "run").mkdir()
    assert copy_inputs(run, config, lambda text: text.replace("hidden", "***")) == []
    kept = {file.name: file.read_text() for file in (run / INPUTS).iterdir()}
    assert kept.pop("simulated.yaml") == Path(quickstart.catalogue.path).read_text()
    assert kept == {"1-sheet.yaml": "prices: a ***", "2-sheet.yaml": "prices: b ***"}


def lose(folder: Path, recording: Path) -> None:
    """A run in the folder that is interrupted."""
    with pytest.raises(KeyboardInterrupt), releasing_unused_name(folder, FIGURES, recording):
        folder.mkdir(exist_ok=True)
        (folder / FIGURES).touch()
        if recording.parent == folder and recording.name != "empty":
            with closing(CassetteStore(recording, writable=True)) as store:
                if recording.name == "calls":
                    store.put(Key("tool", "1", b"call", 0), Recorded("4", Usage(), 1.0, None, 0.0))
        raise KeyboardInterrupt


def test_a_run_without_figures_gives_its_name_back_and_one_with_some_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "mine"
    for n, recording in enumerate(["empty", "no call"], 1):
        lose(run, run / recording)
        assert not run.exists() and (tmp_path / f"mine.failed-{n}" / FIGURES).exists()
        assert f"mine.failed-{n}; the name mine is free" in capsys.readouterr().err
    with pytest.raises(ValueError), releasing_unused_name(run, FIGURES, run / "empty"):
        run.mkdir()
        (run / FIGURES).write_text("{}")
        raise ValueError
    assert run.exists() and not capsys.readouterr().err


def test_a_recording_that_was_paid_for_keeps_the_name(tmp_path: Path) -> None:
    run = tmp_path / "mine"
    lose(run, run / "calls")
    assert (run / "calls").exists()


def test_a_folder_that_was_there_before_is_left_to_its_run(tmp_path: Path) -> None:
    (run := tmp_path / "mine").mkdir()
    lose(run, run / "empty")
    assert (run / FIGURES).exists()


def test_what_ended_a_run_is_told_also_where_its_folder_cannot_be_moved(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        releasing_unused_name(tmp_path / "a", FIGURES, tmp_path / "b"),
    ):
        raise ZeroDivisionError
