"""The passages of a corpus, mapped into memory, and the interface of the indexes over them.

Positions depend on the corpus alone: the same files give the same passages at the same positions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.workers.tools.search.corpus import Passage, corpus_files, read_passages
from orchestra_ray.workers.tools.search.index_cache import digest, open_cached
from orchestra_ray.workers.tools.search.strings import Strings, write_strings

_FORMAT = 1  # version of how a corpus is read and stored
_FIELDS = 3
_NAME = "passages"


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage with its score, which is comparable within one query only."""

    passage: Passage
    score: float


class Retriever(Protocol):
    def retrieve(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """Returns up to `top_k` hits per query, the best first; ties go to the earlier passage."""
        ...


class Passages:
    """A sequence of passages; `digest` is the cache key for indexes over them."""

    def __init__(self, folder: Path, key: str):
        self._strings = Strings(folder / _NAME)
        self.digest = key

    def __len__(self) -> int:
        return len(self._strings) // _FIELDS

    def __getitem__(self, position: int) -> Passage:
        first = position * _FIELDS
        return Passage(*self._strings[first : first + _FIELDS])

    def texts(self) -> Iterator[str]:
        """Yields the text of each passage that is indexed, title included."""
        for position in range(len(self)):
            passage = self[position]
            yield f"{passage.title}\n{passage.text}"


def open_passages(corpus: Path, cache_dir: Path, passage_chars: int) -> Passages:
    """Opens the passages of a corpus, and reads the corpus if they are not in the cache."""
    files = corpus_files(corpus)
    key = digest(files, format=_FORMAT, passage_chars=passage_chars)

    def build(folder: Path) -> None:
        passages = read_passages(files, passage_chars)
        write_strings(
            folder / _NAME, (field for p in passages for field in (p.document, p.title, p.text))
        )
        if not (folder / _NAME).stat().st_size:
            raise ConfigError(f"corpus {corpus}: no text in it; add documents")

    return Passages(open_cached(cache_dir / f"passages-{key}", build), key)
