from dataclasses import replace
from pathlib import Path

from orchestra_ray.config import Config
from orchestra_ray.driver.folder import INPUTS, keep_inputs, release_name


def test_a_run_keeps_what_it_was_given_without_secrets(quickstart: Config, tmp_path: Path) -> None:
    sheets = [tmp_path / "a" / "sheet.yaml", tmp_path / "b" / "sheet.yaml"]
    for sheet in sheets:
        sheet.parent.mkdir()
        sheet.write_text(f"prices: {sheet.parent.name} hidden")
    given = replace(quickstart.catalogue, price_sheets=[str(sheet) for sheet in sheets])
    config = replace(quickstart, catalogue=given)
    (run := tmp_path / "run").mkdir()
    assert keep_inputs(run, config, lambda text: text.replace("hidden", "***")) == []
    kept = {file.name: file.read_text() for file in (run / INPUTS).iterdir()}
    assert kept.pop("simulated.yaml") == Path(quickstart.catalogue.path).read_text()
    assert kept == {"1-sheet.yaml": "prices: a ***", "2-sheet.yaml": "prices: b ***"}


def test_a_folder_without_figures_gives_its_name_back_and_another_keeps_it(tmp_path: Path) -> None:
    run = tmp_path / "mine"
    assert release_name(run, "metrics.jsonl") is None
    for expected in ("mine.failed-1", "mine.failed-2"):
        run.mkdir()
        (run / "metrics.jsonl").touch()
        assert release_name(run, "metrics.jsonl") == tmp_path / expected
        assert not run.exists()
    run.mkdir()
    (run / "metrics.jsonl").write_text("{}")
    assert release_name(run, "metrics.jsonl") is None and run.exists()
