"""Corpora and requests for the tests of search."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Caller, Task, ToolOption, ToolRequest
from orchestra_ray.workers.tools.search.passages import Passages, open_passages

CITIES = (
    {"id": "1", "title": "Paris", "text": "Paris is the capital of France. It lies on the Seine."},
    {"id": "2", "title": "Berlin", "text": "Berlin is the capital of Germany."},
    {"id": "3", "title": "Seine", "text": "The Seine is a river that flows through Paris."},
    {"id": "4", "title": "Reykjavík", "text": "Reykjavík is the capital of Iceland."},
)


@pytest.fixture
def write_corpus(tmp_path: Path) -> Callable[[Sequence[Mapping[str, object]]], Path]:
    def write(rows: Sequence[Mapping[str, object]]) -> Path:
        path = tmp_path / "corpus.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def passages(
    write_corpus: Callable[[Sequence[Mapping[str, object]]], Path], tmp_path: Path
) -> Passages:
    return open_passages(write_corpus(CITIES), tmp_path / "cache", passage_chars=1_000)


@pytest.fixture
def request_for() -> Callable[..., ToolRequest]:
    """A request with `query`, or without arguments where it is None."""
    option = ToolOption(
        alias="search-1",
        identity="local_search",
        kind="tool",
        description="search",
        prices=Prices(),
        latency_s=0.1,
    )

    def make(query: str | None, question: str = "What is the capital of France?") -> ToolRequest:
        return ToolRequest(
            call_id="c",
            caller=Caller(step=1, group_id="g", episode_id="e", turn=0),
            option=option,
            arguments={} if query is None else {"query": query},
            task=Task(task_id="t", family="qa", question=question, payload={}),
            seed=1,
            attempt=0,
        )

    return make
