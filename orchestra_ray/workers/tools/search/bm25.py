"""BM25 over passages with bm25s, which precomputes scores in the index and sums them per query.

The index depends on the passages alone, bit for bit. Its arrays and its vocabulary are mapped into
memory, so that the processes of a node share them.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import bm25s
import numpy as np

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.workers.tools.search.index_cache import digest, open_cached
from orchestra_ray.workers.tools.search.passages import Hit, Passages
from orchestra_ray.workers.tools.search.strings import Strings, write_strings
from orchestra_ray.workers.tools.search.words import words

MAX_QUERY_WORDS = 512  # bounds the time of a query
_FORMAT = 1  # version of the tokenisation and of the files
_VOCABULARY = "vocabulary"  # sorted; the position of a word is its id


class Bm25Retriever:
    def __init__(self, passages: Passages, folder: Path):
        self._passages = passages
        self._vocabulary = Strings(folder / _VOCABULARY)
        self._index = bm25s.BM25.load(folder, mmap=True, load_vocab=False)

    @classmethod
    def open(cls, passages: Passages, cache_dir: Path) -> "Bm25Retriever":
        """Opens the index over `passages`, and builds it if it is not in the cache."""
        key = digest({}, passages=passages.digest, format=_FORMAT, bm25s=version("bm25s"))
        folder = cache_dir / f"bm25-{key}"
        return cls(passages, open_cached(folder, lambda folder: _build(folder, passages)))

    def retrieve(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        return [self._search(query, top_k) for query in queries]

    def _search(self, query: str, top_k: int) -> list[Hit]:
        scores = self._index.get_scores_from_ids(self._known(words(query)[:MAX_QUERY_WORDS]))
        return [Hit(self._passages[i], float(scores[i])) for i in best(scores, top_k).tolist()]

    def _known(self, query_words: Iterable[str]) -> list[int]:
        """Returns the ids of the words that occur in the corpus."""
        places = ((word, bisect_left(self._vocabulary, word)) for word in query_words)
        known = len(self._vocabulary)
        return [at for word, at in places if at < known and self._vocabulary[at] == word]


def best(scores: np.ndarray, top_k: int) -> np.ndarray:
    """Returns the positions of the `top_k` highest scores above 0; ties go to the earlier one."""
    found = np.flatnonzero(scores > 0)
    if len(found) > top_k:
        lowest = np.partition(scores[found], -top_k)[-top_k]
        found = found[scores[found] >= lowest]
    return found[np.argsort(-scores[found], kind="stable")[:top_k]]


def _build(folder: Path, passages: Passages) -> None:
    ids_by_passage, vocabulary = _number_words(words(text) for text in passages.texts())
    if not vocabulary:
        raise ConfigError("corpus: none of its passages has a word; add documents")
    write_strings(folder / _VOCABULARY, vocabulary)
    index = bm25s.BM25()
    ids = {word: position for position, word in enumerate(vocabulary)}
    index.index((ids_by_passage, ids), create_empty_token=False, show_progress=False)
    index.vocab_dict = {}  # stored in a separate file
    index.save(folder, show_progress=False)


def _number_words(texts: Iterable[list[str]]) -> tuple[list[list[int]], list[str]]:
    """Returns the texts as positions in the sorted vocabulary, and that vocabulary."""
    first_seen: dict[str, int] = {}
    ids_by_text = [[first_seen.setdefault(word, len(first_seen)) for word in t] for t in texts]
    vocabulary = sorted(first_seen)
    position = [0] * len(vocabulary)
    for at, word in enumerate(vocabulary):
        position[first_seen[word]] = at
    return [[position[i] for i in ids] for ids in ids_by_text], vocabulary
