"""Measures the overhead of a tool call, and the speed of the parts around it.

    python benchmarks/tools.py --parts calls spend --seconds 3

One Markdown table. `calls`: a tool that does nothing, called with 1, 64 and 1,000 calls in flight
through the pool of a run (executors, and the spend actor with budget and ledger), compared with a
plain call of a Ray actor, a thread pool in this process, and an HTTP server with pooled
connections. `sandbox`, `search` and `spend` time these parts alone.
"""

import argparse
import asyncio
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
from typing import Any

import httpx
import numpy as np
import ray
from tool_parts import Rows, null_catalogue, requests, sandbox, search, spend

from orchestra_ray.core.records import ToolRequest, ToolResult
from orchestra_ray.data.catalogue import Kind
from orchestra_ray.spend.actor import RemoteSpendActor
from orchestra_ray.spend.budget import SpendLimits
from orchestra_ray.workers.tools.actor import RemoteToolExecutor, ToolPool
from orchestra_ray.workers.tools.base import Reply

IN_FLIGHT = (1, 64, 1_000)
WARM_UP_S = 1.0
THREADS = 32
CONNECTIONS = 8  # httpx's work for a request grows with their square
CALL_S = 60.0  # deadline of a call; after it the benchmark fails
LOAD_S = 120.0  # deadline of a load, beyond its own seconds

Call = Callable[[ToolRequest], Awaitable[object]]


class Null:
    """A tool that does nothing."""

    async def call(self, request: ToolRequest) -> Reply:
        return Reply("ok")

    async def close(self) -> None:
        pass


def register_null(_: object = None) -> None:
    """Registers the null tool as a backend of this process, like a user's own class."""
    from orchestra_ray.workers.tools.registry import BACKENDS, Backend, NoSettings

    null = Backend(lambda entry: NoSettings(), lambda entry, settings, servers: Null())
    BACKENDS[Kind.TOOL]["null"] = null  # pyright: ignore[reportIndexIssue]


@dataclass(frozen=True, slots=True)
class Load:
    p50_ms: float
    p99_ms: float
    calls_per_s: float

    @property
    def cells(self) -> tuple[str, ...]:
        return f"{self.p50_ms:,.2f}", f"{self.p99_ms:,.2f}", f"{self.calls_per_s:,.0f}"


async def load(call: Call, to_send: Iterator[ToolRequest], in_flight: int, seconds: float) -> Load:
    """Runs callers that each send the next call after an answer.

    Timing starts when the warm-up is over and each caller has an answer; it ends after `seconds`
    and as many more answers.
    """
    begins_s = time.perf_counter() + WARM_UP_S
    answers, took_s, ends_s = 0, [], begins_s

    async def caller() -> None:
        nonlocal answers, begins_s, ends_s
        while len(took_s) < in_flight or ends_s < begins_s + seconds:
            sent_s = time.perf_counter()
            await call(next(to_send))
            answers, ends_s = answers + 1, time.perf_counter()
            if answers <= in_flight:
                begins_s = max(begins_s, ends_s)
            elif ends_s > begins_s:
                took_s.append(ends_s - sent_s)

    async with asyncio.timeout(LOAD_S + seconds):
        await asyncio.gather(*(caller() for _ in range(in_flight)))
    p50_s, p99_s = np.percentile(took_s, (50, 99))
    return Load(1e3 * float(p50_s), 1e3 * float(p99_s), len(took_s) / (ends_s - begins_s))


def pool_of(executors: int, folder: str) -> tuple[ToolPool, Any]:
    """Starts the tool pool of a run. Returns it with its spend actor."""
    catalogue = null_catalogue()
    limits = SpendLimits(call_nanousd=10**6, episode_nanousd=10**9, run_nanousd=10**12)
    spend = RemoteSpendActor.options(num_cpus=0).remote("bench", folder, limits)
    executor: Any = RemoteToolExecutor.options(num_cpus=0)
    actors = [executor.remote(catalogue, spend, (index, executors)) for index in range(executors)]
    ray.get([actor.__ray_call__.remote(register_null) for actor in actors], timeout=CALL_S)
    ray.get([actor.ready.remote() for actor in actors], timeout=CALL_S)
    return ToolPool(actors, spend, catalogue, "bench"), spend


@ray.remote
class Plain:
    async def call(self, request: ToolRequest) -> str:
        return "ok"


class Server:
    """The null tool behind FastAPI, in a separate process."""

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

    # As a socket, not as uvicorn's `fd`, which loses the family and with it TCP_NODELAY.
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
        runner = undo.enter_context(asyncio.Runner())  # one loop: connections belong to a loop
        loop = runner.get_loop()
        pool, spend_actor = pool_of(executors, folder)
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
            async with connections:  # requests queued inside httpx slow it down
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
        to_send = {name: requests(entry) for name, entry in null_catalogue().entries.items()}
        for number in in_flight:  # peers in turn: the machine's load is the same for all
            for name, call, tool in peers:
                result = runner.run(load(call, to_send[tool], number, seconds))
                yield name, f"{number:,}", *result.cells
        unsettled = runner.run(pool.drain())
        closed: Any = ray.get(spend_actor.close_step.remote(1), timeout=CALL_S)
        if unsettled or closed.failures or closed.totals["ledger/inconsistent"]:
            raise RuntimeError(f"the spend accounts are wrong: {unsettled} unsettled, {closed}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="example: python benchmarks/tools.py --parts calls --in-flight 1000",
    )
    parts = ("calls", "sandbox", "search", "spend")
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
        "spend": spend,
    }
    load_before = os.getloadavg()[0]  # of other programs on the same cores
    machine = f"{os.cpu_count()} cores, load {load_before:.1f}, Python {platform.python_version()}"
    print(f"| {machine} | in flight | p50, ms | p99, ms | calls/s, or as said |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for part in given.parts:
        for row in rows[part]():
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    main()
