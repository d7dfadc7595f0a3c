"""The rows of a file of tasks, each with the line that it stands in.

A file is lines of JSON, one JSON list, or Parquet, where the number of the row stands for its line.
What cannot be read is a `BadRow` in the place of the row: it never quotes the file, whose rows may
be private.
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
    """What is wrong with a row, and what to do."""


def rows(path: Path, key: str) -> Iterator[tuple[int, Row | BadRow]]:
    """`ConfigError`, naming the configuration's `key`, where the file itself cannot be read."""
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
        whole = isinstance(row, Mapping | BadRow)
        yield line, row if whole else BadRow("it is no JSON object; write {...}")


def _lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            yield number, _bad_json(error)


def _listed(text: str) -> Iterator[tuple[int, Any]]:
    """The items of a list; a mistake in the JSON is the last of them."""
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
    return BadRow(f"it is no JSON: {error.msg} at column {error.colno}; correct it there")
