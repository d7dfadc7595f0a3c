"""A sequence of strings in a memory-mapped file, whose pages the processes of a node share.

The file holds the concatenated strings; a second one, with the suffix ".npy", the end of each. A
process keeps only the two maps, and reading is safe from any thread.
"""

import mmap
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np


def write_strings(path: Path, strings: Iterable[str]) -> None:
    """Writes the strings for `Strings(path)`, one at a time."""
    ends = array("q", [0])
    with path.open("wb") as file:
        for string in strings:
            ends.append(ends[-1] + file.write(string.encode()))
    np.save(_ends_path(path), np.frombuffer(ends, dtype=np.int64))


class Strings(Sequence[str]):
    def __init__(self, path: Path):
        self._ends = np.load(_ends_path(path), mmap_mode="r")
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._bytes[self._ends[index] : self._ends[index + 1]].decode()


def _ends_path(path: Path) -> Path:
    return path.with_suffix(".npy")
