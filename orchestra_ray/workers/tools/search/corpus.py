"""Reads a user's corpus into passages: a .jsonl, .txt or .md file, or a folder of them.

A row of JSONL is an object with its text under `text`, `contents` or `content`, and optionally
`title` and `id`; a text file is one document under its name. Ids are unique in a corpus. A long
document becomes several passages, which share its id and title; an empty one becomes none.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.workers.tools.search.text import encodable, pieces

ROWS = ".jsonl"
TEXTS = (".txt", ".md")
TEXT_KEYS = ("text", "contents", "content")


@dataclass(frozen=True, slots=True)
class Passage:
    document: str  # the document's id
    title: str
    text: str


def corpus_files(corpus: Path) -> Mapping[str, Path]:
    """Returns the files of a corpus by relative name, sorted, without hidden ones."""
    if corpus.is_file():
        files = {corpus.name: corpus}
    elif corpus.is_dir():
        paths = {path.relative_to(corpus): path for path in corpus.rglob("*") if path.is_file()}
        files = {name.as_posix(): path for name, path in sorted(paths.items())}
        files = {name: path for name, path in files.items() if not _is_hidden(name)}
    else:
        raise ConfigError(f"corpus {corpus}: no such file or folder; name one that exists")
    known = {name: path for name, path in files.items() if path.suffix in (ROWS, *TEXTS)}
    if not known:
        raise ConfigError(
            f"corpus {corpus}: no .jsonl, .txt or .md file; convert it to one of them"
        )
    return known


def read_passages(files: Mapping[str, Path], passage_chars: int) -> Iterator[Passage]:
    """Yields the passages of `files` in order; `ConfigError` names file and line of a bad row."""
    seen: dict[str, str] = {}  # id -> its file and line
    for name, path in files.items():
        for where, document in _documents(name, path):
            if document.document in seen:
                raise ConfigError(
                    f"{where}: id {document.document} is in {seen[document.document]} too; "
                    "make ids unique, or leave them all out"
                )
            seen[document.document] = where
            for piece in pieces(document.text, passage_chars):
                yield Passage(document.document, document.title, piece)


def _documents(name: str, path: Path) -> Iterator[tuple[str, Passage]]:
    """Yields (location for error messages, document as one passage)."""
    if path.suffix in TEXTS:
        yield f"corpus {path}", _whole_file(name, path)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"corpus {path}, line {number}"
            if line.strip():
                yield where, _row(where, f"{name}:{number}", line)


def _whole_file(name: str, path: Path) -> Passage:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"corpus {path}: not UTF-8; convert it") from None
    return Passage(name, Path(name).with_suffix("").as_posix(), text)


def _row(where: str, default_id: str, line: bytes) -> Passage:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigError(f"{where}: not UTF-8; convert it") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{where}: not JSON; write one object a line") from None
    if not isinstance(row, dict):
        raise ConfigError(f'{where}: not an object; write it as {{"title": …, "text": …}}')
    key = next((key for key in TEXT_KEYS if row.get(key) is not None), None)
    if key is None:
        raise ConfigError(f"{where}: no text; put it under text, contents or content")
    identity = row.get("id")
    if isinstance(identity, bool) or not isinstance(identity, str | int | None):
        raise ConfigError(f"{where}: id is neither text nor an integer; make it one of them")
    return Passage(
        document=default_id if identity is None else encodable(str(identity)),
        title=_text(where, row, "title"),
        text=_text(where, row, key),
    )


def _text(where: str, row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str | None):
        raise ConfigError(f"{where}: {key} is not text; make it a string")
    return encodable(value or "")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))
