"""Reads the rows of a task file, with line numbers.

A file is JSON lines, one JSON list, or Parquet, where row numbers replace line numbers. Unreadable
rows are yielded as a `BadRow`, which never quotes the file, because rows may be private.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestra_ray.core.errors import ConfigError

Row = Mapping[str, Any]


class BadRow(Exception):
    """A mistake in a row, with its remedy."""


def rows(path: Path, key: str) -> Iterator[tuple[int, Row | BadRow]]:
    """Yields (line number, row).

    Raises `ConfigError`, with the configuration key `key`, if the file itself cannot be read.
    """
    try:
        if path.suffix == ".parquet":
            found: Any = enumerate(pq.read_table(path).to_pylist(), 1)
        else:
            text = path.read_text(encoding="utf-8")
            found = _listed(text) if text.lstrip().startswith("[") else _lines(text)
    except (OSError, UnicodeDecodeError, pa.ArrowInvalid) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(f"{path}: cannot be read ({why}); set {key}") from None
    for line, row in found:
        is_valid = isinstance(row, Mapping | BadRow)
        yield line, row if is_valid else BadRow("it is not a JSON object; write {...}")


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            yield number, _bad_json(error)


def _listed(text: str) -> Iterator[tuple[int, Any]]:
    """Yields the items of a JSON list; a syntax error ends it as a `BadRow`."""
    decoder, place, line = json.JSONDecoder(), text.index("[") + 1, 1
    counted = 0
    while True:
        place = _skip(text, place, " \t\r\n,")
        line, counted = line + text.count("\n", counted, place), place
        if text[place : place + 1] == "]":
            return
        try:
            item, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            yield line, _bad_json(error)
            return
        yield line, item


def _skip(text: str, place: int, what: str) -> int:
    while place < len(text) and text[place] in what:
        place += 1
    return place


def _bad_json(error: json.JSONDecodeError) -> BadRow:
    return BadRow(f"it is not JSON: {error.msg} at column {error.colno}; correct it there")
