"""Files of a run. A failed write returns a `Failure` and leaves whole lines and whole files."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestra_ray.core.faults import Failure, FailureKind


class JsonlFile:
    """A file of one JSON object per line, each passed to the operating system by `write`.

    A file has one writer. Opening raises OSError; writing does not.
    """

    def __init__(self, path: Path):
        self.path = path
        self.lost_lines = 0
        self._file = path.open("ab", buffering=0)

    def write(self, record: Mapping[str, Any]) -> Failure | None:
        """Appends `record`, plain JSON. On failure the line is lost and the file stays intact."""
        line = memoryview(json.dumps(record, allow_nan=False).encode() + b"\n")
        end_bytes = os.fstat(self._file.fileno()).st_size
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            self.lost_lines += 1
            # A part of the line may be on the disk; the next line must not follow it directly.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), end_bytes)
            return _failure(self.path, error)
        return None

    def close(self) -> None:
        self._file.close()


def write_text(path: Path, text: str) -> Failure | None:
    """Writes the file atomically: a reader sees the old content or the new."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        return _failure(path, error)
    return None


def _failure(path: Path, error: OSError) -> Failure:
    return Failure(FailureKind.INFRASTRUCTURE, str(path), error.strerror or str(error))
