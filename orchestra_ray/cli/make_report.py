"""One page from the files of one run or of several."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from orchestra_ray.cli.ledger_table import entries_of
from orchestra_ray.core.errors import ConfigError, first_line
from orchestra_ray.core.money import usd
from orchestra_ray.evaluation.report.page import render_page
from orchestra_ray.evaluation.report.runs import Run, calls_of, rows_of, tradeoffs_of, worth_reading
from orchestra_ray.evaluation.report.training import Metrics
from orchestra_ray.evaluation.summary import Summary
from orchestra_ray.evaluation.tradeoffs import Tradeoffs
from orchestra_ray.spend.ledger import FOLDER
from orchestra_ray.spend.summary import By, spend_summary, total
from orchestra_ray.tracking.files import write_text
from orchestra_ray.tracking.redact import Redactor

PAGE = "report.html"


def make_report(folders: Sequence[Path], out: Path | None) -> Path:
    """Writes the page and returns its path: `out`, else report.html in the first run's folder."""
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ConfigError("a run is given twice; name each of them once")
    runs = [read_run(folder) for folder in folders]
    path = out or folders[0] / PAGE
    command = ["orchestra", "report", *map(str, folders), *(["--out", str(out)] if out else [])]
    failure = write_text(path, render_page(runs, Redactor.of().text(shlex.join(command))))
    if failure is not None:
        raise ConfigError(f"{path}: cannot be written ({failure.message}); choose another --out")
    return path


def read_run(folder: Path) -> Run:
    """Reads the files of a run. Raises ConfigError if they are absent or broken."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such run; give the folder of one, such as runs/NAME")
    clean = Redactor.of().clean
    summary, lines = clean(_summary(folder)), clean(_lines(folder))
    if not summary and not lines:
        raise ConfigError(
            f"{folder}: neither summary.json nor metrics.jsonl has anything to report;"
            " wait for the run's first step, or choose another run"
        )
    tree = clean(_tree(folder))
    entries = entries_of(folder) if any((folder / FOLDER).glob("part-*.parquet")) else None
    rows, tradeoffs = _evaluated(folder, summary, entries)
    return Run(
        name=folder.resolve().name,
        command=summary.get("command") or _command(folder, tree, trained="policy" not in summary),
        metrics=Metrics(lines),
        rows=rows,
        tradeoffs=tradeoffs,
        tasks=summary.get("tasks", 0),
        wall_s=summary.get("wall_s", _last_s(lines)),
        spent_usd=None if entries is None else _spent_usd(entries),
        shown=worth_reading(tree),
        versions=summary.get("versions", {}),
        tree=tree,
        tiny=bool((tree.get("model") or {}).get("tiny")),
    )


def _evaluated(
    folder: Path, summary: Mapping[str, Any], entries: pa.Table | None
) -> tuple[dict[str, Summary], Tradeoffs | None]:
    try:
        calls = calls_of(entries) if entries is not None else None
        return rows_of(summary, calls), tradeoffs_of(summary)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{folder / 'summary.json'}: not as a run writes it ({type(error).__name__}: {error});"
            " restore the file or choose another run"
        ) from None


def _spent_usd(entries: pa.Table) -> float:
    return usd(total(spend_summary(entries, By.MODEL)).charged_nanousd)


def _command(folder: Path, tree: Mapping[str, Any], trained: bool) -> str:
    """Returns a command that repeats the run from its saved configuration, "" without one."""
    if not tree:
        return ""
    words = ["orchestra", "train" if trained else "eval", "--config", str(folder / "config.yaml")]
    return shlex.join([*words, f"name={tree.get('name', folder.name)}-again"])


def _last_s(lines: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the wall time at the last step."""
    last = lines[-1].get("time_s") if lines else None
    return float(last) if isinstance(last, int | float) else None


def _summary(folder: Path) -> dict[str, Any]:
    path = folder / "summary.json"
    text = _text(path)
    return _object(path, text) if text else {}


def _lines(folder: Path) -> list[dict[str, Any]]:
    """Returns the complete lines: an active run may be writing the last one."""
    path = folder / "metrics.jsonl"
    whole = _text(path).splitlines(keepends=True)
    return [_object(path, line) for line in whole if line.endswith("\n")]


def _tree(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    try:
        tree = yaml.safe_load(_text(path)) or {}
    except yaml.YAMLError as error:
        raise _broken(path, first_line(error)) from None
    return tree if isinstance(tree, dict) else {}


def _object(path: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _broken(path, first_line(error)) from None
    if not isinstance(found, dict):
        raise _broken(path, "no JSON object")
    return found


def _text(path: Path) -> str:
    """Returns the file's content, "" without a file."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(path, first_line(error)) from None


def _broken(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path}: cannot be read ({why}); restore the file or choose another run")
