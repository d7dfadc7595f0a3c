"""Local search as a tool: concurrent queries are batched into one retrieval in a thread.

All state is touched by one event loop only. At most one retrieval runs; queries that arrive
meanwhile form the next batch.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.search.bm25 import Bm25Retriever
from orchestra_ray.workers.tools.search.dense import DenseRetriever, DenseSettings
from orchestra_ray.workers.tools.search.exchange import numbered, query_of
from orchestra_ray.workers.tools.search.passages import Hit, Retriever, open_passages


@dataclass(frozen=True, slots=True)
class SearchSettings:
    corpus: str  # a file or folder of .jsonl, .txt or .md
    cache_dir: str  # for the index; best on a local disk of the node
    dense: DenseSettings | None = None  # None: BM25
    top_k: int = 5
    passage_chars: int = 1_000  # longer documents are split
    shown_chars: int = 1_000  # of a passage in a reply

    def __post_init__(self) -> None:
        for name in ("top_k", "passage_chars", "shown_chars"):
            if getattr(self, name) < 1:
                raise ConfigError(f"search: {name} is {getattr(self, name)}; set it to 1 or more")


def open_retriever(settings: SearchSettings) -> Retriever:
    """Opens the index of the settings, and builds it if it is not in the cache."""
    cache_dir = Path(settings.cache_dir).expanduser()
    corpus = Path(settings.corpus).expanduser()
    passages = open_passages(corpus, cache_dir, settings.passage_chars)
    if settings.dense is None:
        return Bm25Retriever.open(passages, cache_dir)
    return DenseRetriever.open(passages, cache_dir, settings.dense)


_Query = tuple[str, asyncio.Future[list[Hit]]]


class SearchTool:
    """A `Tool` with the argument `query`; without it, the task's question is searched for."""

    def __init__(self, retriever: Retriever, settings: SearchSettings):
        self._retriever, self._settings = retriever, settings
        self._waiting: list[_Query] = []
        self._answering: asyncio.Task[None] | None = None

    async def call(self, request: ToolRequest) -> Reply:
        query = query_of(request)
        future: asyncio.Future[list[Hit]] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, future))
        if self._answering is None:
            self._answering = asyncio.create_task(self._answer())
        passages = [hit.passage for hit in await future]
        text = numbered(((p.title, p.text) for p in passages), self._settings.shown_chars)
        return Reply(text, Usage(searches=1))

    async def close(self) -> None:
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.wait([self._answering])

    async def _answer(self) -> None:
        """Drains the queue, skipping cancelled queries."""
        batch: list[_Query] = []
        try:
            while self._waiting:
                batch = [query for query in self._waiting if not query[1].done()]
                self._waiting = []
                await self._answer_batch(batch)
        except asyncio.CancelledError:
            _fail([*batch, *self._waiting], FaultKind.UNAVAILABLE, "the search is closed")
        finally:
            self._answering = None

    async def _answer_batch(self, batch: Sequence[_Query]) -> None:
        queries = [query for query, _ in batch]
        try:
            found = await asyncio.to_thread(self._retriever.retrieve, queries, self._settings.top_k)
            answers = list(zip(batch, found, strict=True))
        except Exception as error:  # of the index or model; the tool goes on
            if len(batch) > 1:  # one query may have caused it
                for query in batch:
                    await self._answer_batch([query])
                return
            _fail(batch, FaultKind.SERVER_ERROR, f"the search failed: {type(error).__name__}")
            return
        for (_, future), hits in answers:
            if not future.done():
                future.set_result(hits)


def _fail(batch: Sequence[_Query], kind: FaultKind, text: str) -> None:
    for _, future in batch:
        if not future.done():
            future.set_exception(Fault(kind, text))
