"""Verdicts that were paid for, by a digest of question, reference, answer and judge.

They are in memory, and for a scorer that is started again in a file of the run's folder, a line a
verdict. It holds digests, and nothing of what was judged. Where the disk refuses, verdicts are
kept in memory alone, and the log says so once.
"""

import hashlib
import json
import logging
from pathlib import Path

FILE = "verdicts.txt"
_WORDS = {"right": True, "wrong": False}
_log = logging.getLogger(__name__)


def digest(*parts: str) -> str:
    text = json.dumps(parts)  # so that no two lists of parts are one text
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Verdicts:
    """One process at a time writes to a folder."""

    def __init__(self, folder: str | None):
        """`folder` of None: in memory alone."""
        self._path = None if folder is None else Path(folder) / FILE
        self._known = {} if self._path is None else _read(self._path)

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> bool | None:
        return self._known.get(key)

    def put(self, key: str, correct: bool) -> None:
        self._known[key] = correct
        if self._path is None:
            return
        try:
            with self._path.open("a") as file:
                file.write(f"{key} {'right' if correct else 'wrong'}\n")
        except OSError as error:
            _log.warning("%s: %s; verdicts are kept in memory alone", self._path, error)
            self._path = None


def _read(path: Path) -> dict[str, bool]:
    """What is whole in the file: a line may be the last that a process wrote."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        _log.warning("%s: %s; its verdicts are asked for again", path, error)
        return {}
    parts = [line.split() for line in lines]
    return {p[0]: _WORDS[p[1]] for p in parts if len(p) == 2 and p[1] in _WORDS}
