"""Timings of the parts around a tool call: sandbox, search, ledger and spend budget."""

import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.records import (
    Caller,
    LedgerEntry,
    Reservation,
    Task,
    ToolOption,
    ToolRequest,
)
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind
from orchestra_ray.sandbox.command import SandboxError, SandboxLimits
from orchestra_ray.sandbox.run import Sandbox
from orchestra_ray.spend.budget import SpendBudget, SpendLimits
from orchestra_ray.spend.ledger import Ledger
from orchestra_ray.workers.tools.search.tool import SearchSettings, open_retriever

GROUP = 16  # episodes that share a task and a toolset
PASSAGES, PASSAGE_WORDS, VOCABULARY = 100_000, 60, 30_000
QUERIES, QUERY_WORDS = 256, 5
SANDBOX_RUNS = 10
ENTRIES = 20_000

Rows = Iterator[tuple[str, ...]]


def null_catalogue() -> Catalogue:
    free = Entry("free", Kind.TOOL, "Does nothing.", "null", Prices(), 0.0)
    priced = Entry("priced", Kind.TOOL, "Does nothing.", "null", Prices(call_nanousd=7), 0.0)
    return Catalogue({"free": free, "priced": priced}, "bench")


def requests(entry: Entry) -> Iterator[ToolRequest]:
    """Yields requests without end; the episodes of a group share their task and their toolset."""
    for group in itertools.count():
        option = ToolOption(
            entry.name, entry.name, entry.kind, "", entry.prices, 0.0, {"type": "object"}
        )
        task = Task(f"t{group}", "family", "How much is 6 times 7? " * 8, {"answer": "42"})
        for turn in range(4):
            for number in range(GROUP):
                episode = f"{entry.name}/{group}/{number}"
                caller = Caller(1, f"{entry.name}/{group}", episode, turn)
                call_id = f"{episode}/{turn}"
                yield ToolRequest(call_id, caller, option, {"x": turn}, task, number, turn)


def sandbox() -> Rows:
    started_s = time.perf_counter()
    try:
        box = Sandbox(SandboxLimits())
    except SandboxError as error:
        yield "sandbox", str(error)
        return
    yield one("sandbox: made and probed", f"{1e3 * (time.perf_counter() - started_s):,.0f} ms")

    async def runs() -> list[float]:
        took_s = []
        for _ in range(1 + SANDBOX_RUNS):
            before_s = time.perf_counter()
            outcome = await box.run("print(1)")
            took_s.append(time.perf_counter() - before_s)
            assert outcome.stdout.text == "1\n"
        await box.close()
        return took_s

    cold_s, *warm_s = asyncio.run(runs())
    yield one("sandbox: first `print(1)`", f"{1e3 * cold_s:,.0f} ms")
    yield one("sandbox: later `print(1)`, median", f"{1e3 * float(np.median(warm_s)):,.0f} ms")


def search() -> Rows:
    rng = np.random.default_rng(0)
    chances = 1.0 / np.arange(1, VOCABULARY + 1)  # Zipf's law, as in a natural language

    def texts(number: int, length: int) -> list[str]:
        ids = rng.choice(VOCABULARY, size=(number, length), p=chances / chances.sum())
        return [" ".join(f"w{i}" for i in row) for row in ids.tolist()]

    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus.jsonl")
        rows = (json.dumps({"text": text}) for text in texts(PASSAGES, PASSAGE_WORDS))
        corpus.write_text("\n".join(rows))
        settings = SearchSettings(str(corpus), str(Path(folder, "cache")))
        name = f"BM25, {PASSAGES:,} passages"
        for what in ("read and index", "open again"):
            started_s = time.perf_counter()
            retriever = open_retriever(settings)
            yield one(f"{name}: {what}", f"{time.perf_counter() - started_s:,.2f} s")
        queries = texts(QUERIES, QUERY_WORDS)
        retriever.retrieve(queries, settings.top_k)
        single_s = timed(lambda: [retriever.retrieve([q], settings.top_k) for q in queries])
        yield one(f"{name}: one query at a time", f"{QUERIES / single_s:,.0f} queries/s")
        batch_s = timed(lambda: retriever.retrieve(queries, settings.top_k))
        yield one(f"{name}: {QUERIES} in a batch", f"{QUERIES / batch_s:,.0f} queries/s")


def spend() -> Rows:
    entry = null_catalogue().entries["priced"]
    sent = list(itertools.islice(requests(entry), ENTRIES))
    entries = [
        LedgerEntry(r.call_id, r.caller, "priced", "priced", "tool", "bench", Usage(), 7, 0.1)
        for r in sent
    ]
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger("bench", Path(folder))
        add_s = timed(lambda: ledger.add(entries))
        flush_s = timed(ledger.flush)
        yield one("ledger: add", f"{ENTRIES / add_s:,.0f} entries/s")
        yield one("ledger: add and write Parquet", f"{ENTRIES / (add_s + flush_s):,.0f} entries/s")
    budget = SpendBudget(
        SpendLimits(episode_nanousd=10**9, step_nanousd=10**12, run_nanousd=10**12)
    )
    reservations = [Reservation(f"{r.call_id}#0.1", r.caller, 7) for r in sent]

    def reserve_and_settle() -> None:
        for reservation in reservations:
            budget.reserve(reservation)
            budget.settle(reservation.key, 7)

    budget_s = timed(reserve_and_settle)
    yield one("spend budget: reserve and settle", f"{ENTRIES / budget_s:,.0f} calls/s")


def one(what: str, value: str) -> tuple[str, ...]:
    return what, "", "", "", value


def timed(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s
