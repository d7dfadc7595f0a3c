import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.search.bm25 import Bm25Retriever
from orchestra_ray.workers.tools.search.corpus import Passage
from orchestra_ray.workers.tools.search.exchange import NOTHING_FOUND
from orchestra_ray.workers.tools.search.passages import Hit, Passages
from orchestra_ray.workers.tools.search.tool import SearchSettings, SearchTool, open_retriever

RequestFor = Callable[..., ToolRequest]
SETTINGS = SearchSettings(corpus="unused", cache_dir="unused", top_k=2)


class Echo:
    """A retriever of the test's own: finds the query itself, and can be held or made to fail."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.started, self.may_go = threading.Event(), threading.Event()
        self.may_go.set()

    def retrieve(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        self.batches.append(list(queries))
        self.started.set()
        assert self.may_go.wait(timeout=60)
        if "fail" in queries:
            raise MemoryError("no room")
        return [[Hit(Passage(query, "", query), 1.0)] for query in queries]

    def hold(self) -> None:
        self.started.clear()
        self.may_go.clear()

    async def wait_until_started(self) -> None:
        assert await asyncio.to_thread(self.started.wait, 60)


@pytest.fixture
def cities(passages: Passages, tmp_path: Path) -> Bm25Retriever:
    return Bm25Retriever.open(passages, tmp_path / "cache")


def ask(tool: SearchTool, *requests: ToolRequest) -> list[str]:
    async def run() -> list[str]:
        async with asyncio.timeout(60):
            replies = await asyncio.gather(*(tool.call(request) for request in requests))
        assert all(reply.usage == Usage(searches=1) for reply in replies)
        await tool.close()
        return [reply.text for reply in replies]

    return asyncio.run(run())


def test_a_reply_is_the_numbered_passages(cities: Bm25Retriever, request_for: RequestFor) -> None:
    (text,) = ask(SearchTool(cities, SETTINGS), request_for("the river Seine"))
    assert text == (
        "[1] Seine\nThe Seine is a river that flows through Paris.\n\n"
        "[2] Paris\nParis is the capital of France. It lies on the Seine."
    )


def test_without_a_query_the_question_is_searched(
    cities: Bm25Retriever, request_for: RequestFor
) -> None:
    tool = SearchTool(cities, SETTINGS)
    absent, given = ask(tool, request_for(None, "capital of Germany?"), request_for("Germany"))
    assert absent.startswith("[1] Berlin\n") and given.startswith("[1] Berlin\n")


def test_a_query_that_finds_nothing_is_told_so(
    cities: Bm25Retriever, request_for: RequestFor
) -> None:
    assert ask(SearchTool(cities, SETTINGS), request_for("the"), request_for("zzz")) == [
        NOTHING_FOUND,
        NOTHING_FOUND,
    ]


def test_an_empty_query_fails_alone(cities: Bm25Retriever, request_for: RequestFor) -> None:
    async def run() -> None:
        tool = SearchTool(cities, SETTINGS)
        empty, right = await asyncio.gather(
            tool.call(request_for(" ")), tool.call(request_for("Berlin")), return_exceptions=True
        )
        assert isinstance(empty, Fault) and empty.kind is FaultKind.BAD_INPUT
        assert not isinstance(right, BaseException) and "Germany" in right.text

    asyncio.run(run())


def test_calls_of_one_turn_of_the_loop_are_one_retrieval(request_for: RequestFor) -> None:
    retriever = Echo()
    queries = [f"query {i}" for i in range(20)]
    texts = ask(SearchTool(retriever, SETTINGS), *map(request_for, queries))
    assert texts == [f"[1]\n{query}" for query in queries]
    assert retriever.batches == [queries]


def test_what_is_asked_during_a_retrieval_goes_into_the_next_together(
    request_for: RequestFor,
) -> None:
    async def run() -> None:
        retriever = Echo()
        tool = SearchTool(retriever, SETTINGS)
        retriever.hold()
        first = asyncio.create_task(tool.call(request_for("first")))
        await retriever.wait_until_started()
        later = [asyncio.create_task(tool.call(request_for(f"later {i}"))) for i in range(5)]
        await asyncio.sleep(0)
        retriever.may_go.set()
        replies = await asyncio.wait_for(asyncio.gather(first, *later), timeout=60)
        assert [reply.text for reply in replies][1] == "[1]\nlater 0"
        assert retriever.batches == [["first"], [f"later {i}" for i in range(5)]]

    asyncio.run(run())


def test_a_cancelled_call_is_not_searched_for_and_harms_no_other(request_for: RequestFor) -> None:
    async def run() -> None:
        retriever = Echo()
        tool = SearchTool(retriever, SETTINGS)
        retriever.hold()
        calls = [asyncio.create_task(tool.call(request_for("running")))]
        await retriever.wait_until_started()
        calls += [asyncio.create_task(tool.call(request_for(query))) for query in ("gone", "kept")]
        await asyncio.sleep(0)
        calls[0].cancel()
        calls[1].cancel()
        retriever.may_go.set()
        assert (await asyncio.wait_for(calls[2], timeout=60)).text == "[1]\nkept"
        assert retriever.batches == [["running"], ["kept"]]

    asyncio.run(run())


def test_a_retrieval_that_fails_is_a_fault_of_its_query_alone(request_for: RequestFor) -> None:
    async def run() -> None:
        tool = SearchTool(Echo(), SETTINGS)
        queries = ("before", "fail", "after")
        before, fault, after = await asyncio.gather(
            *(tool.call(request_for(query)) for query in queries), return_exceptions=True
        )
        assert isinstance(fault, Fault) and fault.kind is FaultKind.SERVER_ERROR
        assert str(fault) == "the search failed: MemoryError"
        for reply, query in ((before, "before"), (after, "after")):
            assert isinstance(reply, Reply) and reply.text == f"[1]\n{query}"
        assert (await tool.call(request_for("again"))).text == "[1]\nagain"

    asyncio.run(run())


class Forgetful(Echo):
    """Answers one query too few."""

    def retrieve(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        return super().retrieve(queries, top_k)[1:]


def test_no_query_waits_for_ever_where_an_answer_is_missing(request_for: RequestFor) -> None:
    async def run() -> None:
        tool = SearchTool(Forgetful(), SETTINGS)
        asked = [tool.call(request_for(query)) for query in ("a", "b", "c")]
        async with asyncio.timeout(30):
            ended = await asyncio.gather(*asked, return_exceptions=True)
        assert all(isinstance(one, Reply | Fault) for one in ended)

    asyncio.run(run())


def test_closing_ends_the_calls_that_wait(request_for: RequestFor) -> None:
    async def run() -> None:
        retriever = Echo()
        tool = SearchTool(retriever, SETTINGS)
        retriever.hold()
        calls = [asyncio.create_task(tool.call(request_for("running")))]
        await retriever.wait_until_started()
        calls.append(asyncio.create_task(tool.call(request_for("waiting"))))
        await asyncio.sleep(0)
        await tool.close()
        for ended in await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 60):
            assert isinstance(ended, Fault) and ended.kind is FaultKind.UNAVAILABLE
        retriever.may_go.set()

    asyncio.run(run())


def test_settings_open_an_index_over_passages_of_their_length(
    write_corpus: Callable[[Sequence[Mapping[str, object]]], Path],
    tmp_path: Path,
    request_for: RequestFor,
) -> None:
    corpus = write_corpus([{"title": "T", "text": "Some words. " * 100}])
    settings = SearchSettings(str(corpus), str(tmp_path / "cache"), passage_chars=60)
    (text,) = ask(SearchTool(open_retriever(settings), settings), request_for("words"))
    assert text.count("[") == settings.top_k
    assert text.startswith("[1] T\nSome words.")
    assert max(map(len, text.split("\n"))) <= 60


@pytest.mark.parametrize("name", ["top_k", "passage_chars", "shown_chars"])
def test_settings_below_one_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is 0; set it to 1"):
        replace(SETTINGS, **{name: 0})


def test_settings_can_be_read_from_yaml() -> None:
    read = OmegaConf.merge(
        OmegaConf.structured(SearchSettings),
        OmegaConf.create("{corpus: a, cache_dir: b, dense: {model: m, pooling: mean}}"),
    )
    settings = OmegaConf.to_object(read)
    assert isinstance(settings, SearchSettings) and settings.dense
    assert (settings.corpus, settings.dense.pooling, settings.top_k) == ("a", "mean", 5)


def test_nothing_of_dense_retrieval_is_imported_without_it() -> None:
    source = (
        "import sys, orchestra_ray.workers.tools.search.tool as t; "
        "print(sorted({'torch', 'faiss', 'transformers'} & set(sys.modules)))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=120, check=True
    )
    assert printed.stdout.strip() == "[]"
