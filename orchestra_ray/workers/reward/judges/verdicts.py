"""Cache of paid verdicts, by a digest of question, reference, answer and judge.

Verdicts are held in memory and, for a restarted scorer, in a file of the run's folder, one line
each. The file contains digests only, no text of tasks or answers. If it cannot be written, verdicts
are kept in memory only, with one warning.
"""

import hashlib
import json
import logging
from pathlib import Path

FILE = "verdicts.txt"
_WORDS = {"right": True, "wrong": False}
_log = logging.getLogger(__name__)


def digest(*parts: str) -> str:
    text = json.dumps(parts)  # so that different lists of parts have different texts
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class Verdicts:
    """The cache of one process; only one process at a time may write to a folder."""

    def __init__(self, folder: str | None):
        """folder: None keeps verdicts in memory only."""
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
            _log.warning("%s: %s; verdicts are kept in memory only", self._path, error)
            self._path = None


def _read(path: Path) -> dict[str, bool]:
    """Returns the complete lines of the file; the last one of a process may be partial."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        _log.warning("%s: %s; its verdicts will be requested again", path, error)
        return {}
    parts = [line.split() for line in lines]
    return {p[0]: _WORDS[p[1]] for p in parts if len(p) == 2 and p[1] in _WORDS}
