"""What a tool call costs beside the tool itself, and how fast the parts around it are.

    python benchmarks/tools.py --parts calls books --seconds 3

One Markdown table. `calls`: a tool that does nothing, called with 1, 64 and 1,000 calls in flight
through the pool as a run has it (executors, books, guard and ledger, all Ray actors), beside a
plain call of a Ray actor, a thread pool in this process, and an HTTP server with pooled
connections. `sandbox`, `search` and `books` time what their names say.
"""

import argparse
import asyncio
import itertools
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import ray

from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.records import (
    Caller,
    LedgerEntry,
    Reservation,
    Task,
    ToolOption,
    ToolRequest,
    ToolResult,
)
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind
from orchestra_ray.sandbox.command import Limits as SandboxLimits
from orchestra_ray.sandbox.command import SandboxError
from orchestra_ray.sandbox.run import Sandbox
from orchestra_ray.spend.budget import SpendBudget, SpendLimits
from orchestra_ray.spend.ledger import Ledger
from orchestra_ray.workers.tools.actor import Books, ToolExecutor, ToolPool
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.search.tool import SearchSettings, open_retriever

IN_FLIGHT = (1, 64, 1_000)
WARM_UP_S = 1.0
GROUP = 16  # episodes that share a task and a draw
THREADS = 32
CONNECTIONS = 8  # the work of httpx for a request grows with the square of them
PASSAGES, PASSAGE_WORDS, VOCABULARY = 100_000, 60, 30_000
QUERIES, QUERY_WORDS = 256, 5
SANDBOX_RUNS = 10
ENTRIES = 20_000
CALL_S = 60.0  # after which a call that has no answer ends the benchmark
LOAD_S = 120.0  # beyond its own seconds

Call = Callable[[ToolRequest], Awaitable[object]]
Rows = Iterator[tuple[str, ...]]


class Null:
    """A tool that does nothing."""

    async def call(self, request: ToolRequest) -> Reply:
        return Reply("ok")

    async def close(self) -> None:
        pass


def register_null(_: object = None) -> None:
    """Makes the null tool an executor of this process, as a user's own class would be."""
    from orchestra_ray.workers.tools.registry import BACKENDS, Backend, NoSettings

    null = Backend(lambda entry: NoSettings(), lambda entry, settings, servers: Null())
    BACKENDS[Kind.TOOL]["null"] = null  # pyright: ignore[reportIndexIssue]


def null_catalogue() -> Catalogue:
    free = Entry("free", Kind.TOOL, "Does nothing.", "null", Prices(), 0.0)
    priced = Entry("priced", Kind.TOOL, "Does nothing.", "null", Prices(call_nanousd=7), 0.0)
    return Catalogue({"free": free, "priced": priced}, "bench")


def requests(entry: Entry) -> Iterator[ToolRequest]:
    """Without end, as a run's: the episodes of a group share their task and their draw."""
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


@dataclass(frozen=True, slots=True)
class Load:
    p50_ms: float
    p99_ms: float
    calls_per_s: float

    @property
    def cells(self) -> tuple[str, ...]:
        return f"{self.p50_ms:,.2f}", f"{self.p99_ms:,.2f}", f"{self.calls_per_s:,.0f}"


async def load(call: Call, asked: Iterator[ToolRequest], in_flight: int, seconds: float) -> Load:
    """Callers that each ask again once they are answered.

    Time begins when the warm-up is over and each caller has been answered; it ends after `seconds`
    and as many more answers.
    """
    begins_s = time.perf_counter() + WARM_UP_S
    answers, took_s, ends_s = 0, [], begins_s

    async def caller() -> None:
        nonlocal answers, begins_s, ends_s
        while len(took_s) < in_flight or ends_s < begins_s + seconds:
            asked_s = time.perf_counter()
            await call(next(asked))
            answers, ends_s = answers + 1, time.perf_counter()
            if answers <= in_flight:
                begins_s = max(begins_s, ends_s)
            elif ends_s > begins_s:
                took_s.append(ends_s - asked_s)

    async with asyncio.timeout(LOAD_S + seconds):
        await asyncio.gather(*(caller() for _ in range(in_flight)))
    p50_s, p99_s = np.percentile(took_s, (50, 99))
    return Load(1e3 * float(p50_s), 1e3 * float(p99_s), len(took_s) / (ends_s - begins_s))


def pool_of(executors: int, folder: str) -> tuple[ToolPool, Any]:
    """As a run has it, and its books."""
    catalogue = null_catalogue()
    limits = SpendLimits(call_nanousd=10**6, episode_nanousd=10**9, run_nanousd=10**12)
    books = Books.options(num_cpus=0).remote("bench", folder, limits)
    executor: Any = ToolExecutor.options(num_cpus=0)
    actors = [executor.remote(catalogue, books, (index, executors)) for index in range(executors)]
    ray.get([actor.__ray_call__.remote(register_null) for actor in actors], timeout=CALL_S)
    ray.get([actor.ready.remote() for actor in actors], timeout=CALL_S)
    return ToolPool(actors, books, catalogue, "bench"), books


@ray.remote
class Plain:
    async def call(self, request: ToolRequest) -> str:
        return "ok"


class Server:
    """The null tool behind FastAPI, in a process of its own."""

    def __enter__(self) -> str:
        with socket.create_server(("127.0.0.1", 0), backlog=2_048) as listening:
            port = listening.getsockname()[1]
            fd = listening.fileno()
            command = [sys.executable, __file__, "--serve", str(fd)]
            self._process = subprocess.Popen(command, pass_fds=[fd])
        return f"http://127.0.0.1:{port}/call"

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(CALL_S)


def serve(fd: int) -> None:
    import uvicorn
    from fastapi import FastAPI

    app = FastAPI()

    @app.post("/call")
    async def call(arguments: dict[str, Any]) -> dict[str, str]:
        return {"text": "ok"}

    # As a socket, not as uvicorn's own `fd`: that one loses the family, and TCP_NODELAY with it.
    with socket.socket(fileno=fd) as listening:
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run([listening])


def calls(executors: int, seconds: float, in_flight: Sequence[int]) -> Rows:
    with ExitStack() as undo:
        url = undo.enter_context(Server())
        threads = undo.enter_context(ThreadPoolExecutor(THREADS))
        folder = undo.enter_context(tempfile.TemporaryDirectory())
        undo.callback(ray.shutdown)
        ray.init(
            address="local", num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False
        )
        runner = undo.enter_context(asyncio.Runner())  # one loop: connections are of a loop
        loop = runner.get_loop()
        pool, books = pool_of(executors, folder)
        plain = Plain.options(num_cpus=0).remote()
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        http = httpx.AsyncClient(limits=limits, timeout=CALL_S)
        connections = asyncio.Semaphore(CONNECTIONS)
        undo.callback(lambda: runner.run(http.aclose()))

        async def through_pool(request: ToolRequest) -> None:
            result = await pool.call(request)
            if not isinstance(result, ToolResult) or result.error is not None:
                raise RuntimeError(f"the null tool failed: {result}")

        async def by_http(request: ToolRequest) -> None:
            async with connections:  # those that wait inside slow httpx down
                response = await http.post(url, json=dict(request.arguments))
            response.raise_for_status()

        async def in_thread(request: ToolRequest) -> None:
            await loop.run_in_executor(threads, str, "ok")

        async def by_actor(request: ToolRequest) -> None:
            await plain.call.remote(request)

        peers: list[tuple[str, Call, str]] = [
            (f"pool, {executors} executors, free tool", through_pool, "free"),
            (f"pool, {executors} executors, priced tool", through_pool, "priced"),
            ("plain Ray actor call", by_actor, "free"),
            (f"thread pool of {THREADS} in process", in_thread, "free"),
            (f"HTTP server, {CONNECTIONS} connections", by_http, "free"),
        ]
        asked = {name: requests(entry) for name, entry in null_catalogue().entries.items()}
        for number in in_flight:  # peers after each other: the machine is as busy for all
            for name, call, tool in peers:
                result = runner.run(load(call, asked[tool], number, seconds))
                yield name, f"{number:,}", *result.cells
        unposted = runner.run(pool.drain())
        closing: Any = ray.get(books.close_step.remote(1), timeout=CALL_S)
        if unposted or closing.failures or closing.totals["ledger/misposted"]:
            raise RuntimeError(f"the books are wrong: {unposted} unposted, {closing}")


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
    chances = 1.0 / np.arange(1, VOCABULARY + 1)  # as words of a language have them

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


def books() -> Rows:
    entry = null_catalogue().entries["priced"]
    asked = list(itertools.islice(requests(entry), ENTRIES))
    entries = [
        LedgerEntry(r.call_id, r.caller, "priced", "priced", "tool", "bench", Usage(), 7, 0.1)
        for r in asked
    ]
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger("bench", Path(folder))
        add_s = timed(lambda: ledger.add(entries))
        flush_s = timed(ledger.flush)
        yield one("ledger: add", f"{ENTRIES / add_s:,.0f} entries/s")
        yield one("ledger: add and write Parquet", f"{ENTRIES / (add_s + flush_s):,.0f} entries/s")
    guard = SpendBudget(SpendLimits(episode_nanousd=10**9, step_nanousd=10**12, run_nanousd=10**12))
    reservations = [Reservation(f"{r.call_id}#0.1", r.caller, 7) for r in asked]

    def reserve_and_settle() -> None:
        for reservation in reservations:
            guard.reserve(reservation)
            guard.settle(reservation.key, 7)

    guard_s = timed(reserve_and_settle)
    yield one("guard: reserve and settle", f"{ENTRIES / guard_s:,.0f} calls/s")


def one(what: str, value: str) -> tuple[str, ...]:
    return what, "", "", "", value


def timed(work: Callable[[], object]) -> float:
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="example: python benchmarks/tools.py --parts calls --in-flight 1000",
    )
    parts = ("calls", "sandbox", "search", "books")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=parts,
        default=parts,
        metavar="PART",
        help=f"what to time, of {', '.join(parts)} (default: all)",
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="of each load (default: 3)")
    parser.add_argument("--executors", type=int, default=2, help="of the pool (default: 2)")
    parser.add_argument(
        "--in-flight",
        type=int,
        nargs="+",
        default=IN_FLIGHT,
        metavar="N",
        help="calls at once (default: 1 64 1000)",
    )
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        return serve(given.serve)
    register_null()
    rows = {
        "calls": lambda: calls(given.executors, given.seconds, given.in_flight),
        "sandbox": sandbox,
        "search": search,
        "books": books,
    }
    load_before = os.getloadavg()[0]  # of others: they share the cores
    machine = f"{os.cpu_count()} cores, load {load_before:.1f}, Python {platform.python_version()}"
    print(f"| {machine} | in flight | p50, ms | p99, ms | calls/s, or as said |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for part in given.parts:
        for row in rows[part]():
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    main()
