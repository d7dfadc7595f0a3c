"""Bad days of endpoints, tools, disks and executors, through the real pool and its actors.

Each is one named failure, one observation or one retry, within the deadline of its entry: the pool
ends what is late as a `Failure`, and no test here sees one. Afterwards the books balance.
"""

import asyncio
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from orchestra_ray.catalogue import Catalogue, Entry, Kind, Limits
from orchestra_ray.config.schema import CassetteConfig, CassetteMode
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import ToolRequest, ToolResult
from orchestra_ray.core.states import Failure, FailureKind
from orchestra_ray.tools.actor import Books, ToolExecutor, ToolPool
from orchestra_ray.tools.attempts import most_cost_nanousd
from orchestra_ray.tools.executor import Load
from orchestra_ray.tools.guard import SpendLimits
from orchestra_ray.tools.tool import FaultKind

pytestmark = pytest.mark.cpu

TOKENS = Prices(input_nanousd_per_mtok=10**9, output_nanousd_per_mtok=2 * 10**9)
JSON, HTML = {"Content-Type": "application/json"}, {"Content-Type": "text/html"}
SSE = {"Content-Type": "text/event-stream"}
DEADLINE_S = 3.0


def answer(usage: Any = None) -> str:
    body = {"choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}
    return json.dumps(body | ({} if usage is None else {"usage": usage}))


def piece(text: str) -> str:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"


FINE = {"status": 200, "headers": JSON, "parts": [answer()]}
DOWN, STREAM = {"base_urls": ["http://127.0.0.1:9/v1"]}, {"stream": True, "idle_s": 0.5}


@dataclass(frozen=True)
class Day:
    """What the server does, and what must come of it. `retries` is how many the call has."""

    script: Mapping[str, Any]
    error: FaultKind | None
    says: str = ""
    retries: int = 0
    free: bool = False
    settings: Mapping[str, Any] | None = None


ENDPOINTS = {
    "down": Day({}, FaultKind.CONNECTION, "the connection failed", settings=DOWN),
    "silent": Day({"end": "hang"}, FaultKind.TIMEOUT, "no answer within"),
    "slow": Day(
        {"status": 200, "headers": JSON, "chunked": True, "parts": ['{"choices', 60]},
        FaultKind.TIMEOUT,
        "no answer within",
    ),
    "limited": Day({"status": 429, "parts": ["later"]}, FaultKind.RATE_LIMITED, "429", free=True),
    "failing": Day({"status": 500, "parts": ["no"]}, FaultKind.SERVER_ERROR, "500", free=True),
    "html": Day(
        {"status": 200, "headers": HTML, "parts": ["<html>Welcome</html>"]}, FaultKind.BAD_REPLY
    ),
    "html error": Day(
        {"status": 502, "headers": HTML, "parts": ["<html>"]},
        FaultKind.SERVER_ERROR,
        "502: an HTML page",
        free=True,
    ),
    "half": Day(
        {"status": 200, "headers": JSON, "parts": ['{"choices": [{"mess']}, FaultKind.BAD_REPLY
    ),
    "broken off": Day(
        {"status": 200, "headers": JSON | {"Content-Length": "99"}, "parts": ["{"], "end": "close"},
        FaultKind.CONNECTION,
    ),
    "stream stops": Day(
        {"status": 200, "headers": SSE, "chunked": True, "parts": [piece("so")], "end": "hang"},
        FaultKind.TIMEOUT,
        "the answer stopped for 0.5 s",
        settings=STREAM,
    ),
    "stream breaks": Day(
        {"status": 200, "headers": SSE, "chunked": True, "parts": [piece("so")], "end": "reset"},
        FaultKind.CONNECTION,
        settings=STREAM,
    ),
    "flood": Day({"status": 200, "headers": JSON, "end": "flood"}, FaultKind.BAD_REPLY, "longer"),
    "usage below zero": Day(
        FINE | {"parts": [answer({"prompt_tokens": -5, "completion_tokens": -1})]}, None, "fine"
    ),
    "usage of a year": Day(
        FINE | {"parts": [answer({"prompt_tokens": 10**12, "completion_tokens": 10**12})]},
        None,
        "fine",
    ),
    "usage in words": Day(FINE | {"parts": [answer({"prompt_tokens": "many"})]}, None, "fine"),
    "no usage": Day(FINE, None, "fine"),
    "down once": Day(FINE | {"first": {"status": 503, "parts": ["no"]}}, None, "fine", retries=1),
    "half once": Day(
        FINE | {"first": {"status": 200, "headers": JSON, "parts": ["{"]}}, None, "fine", retries=1
    ),
    "limited once": Day(
        FINE | {"first": {"status": 429, "headers": {"Retry-After": "0.1"}, "parts": ["later"]}},
        None,
        "fine",
        retries=1,
    ),
}
MODULE = """
import os, time

def hang() -> str:
    time.sleep(600)

def fork(mark: str) -> str:
    for _ in range(20):
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "600", mark])
    time.sleep(600)

def eat() -> str:
    return str(len(b"x" * 2**33))

def shout() -> str:
    for _ in range(1024):
        print("x" * 2**20)
    return "hoarse"

def ramble() -> str:
    return "x" * 10**8

def die() -> str:
    os._exit(3)
"""
FUNCTIONS = {
    "hang": (FaultKind.TIMEOUT, "no answer within 3 s"),
    "fork": (FaultKind.TIMEOUT, "no answer within 3 s"),
    "eat": (FaultKind.SERVER_ERROR, "MemoryError"),
    "shout": (None, "hoarse"),
    "ramble": (FaultKind.BAD_REPLY, "100000000 characters, too many"),
    "die": (FaultKind.SERVER_ERROR, "the function's process ended: exit code 3"),
}
PROGRAMS = {
    "hang": ("while True: pass", "[stopped: it "),
    "sleep": ("import time; time.sleep(600)", "[stopped: it ran longer than "),
    "fork": ("import os\nwhile True: os.fork()", "[stopped: it \nBlockingIOError"),
    "eat": ("x = [b'x' * 2**24 for _ in range(2**12)]", "MemoryError\n[stopped: it used more"),
    "shout": ("while True: print('x' * 2**20)", "[stopped: it printed more than "),
}


def running(load: Mapping[str, Load]) -> int:
    return sum(of_tool.running for of_tool in load.values())


def entry_of(name: str, executor: str, settings: Mapping[str, Any], **limits: Any) -> Entry:
    kind = Kind.MODEL if executor == "endpoint" else Kind.TOOL
    given = {"retries": 0, "deadline_s": DEADLINE_S, "context_tokens": 4096} | limits
    made = Limits(max_output_tokens=64, **given)
    return Entry(name, kind, "", executor, TOKENS, 0.0, made, settings=settings)


@dataclass(frozen=True)
class World:
    """A pool of two executors, and the books."""

    catalogue: Catalogue
    books: Any
    executors: list[Any]

    def call(self, *requests: ToolRequest) -> list[ToolResult | Failure]:
        async def main() -> list[ToolResult | Failure]:
            pool = ToolPool(self.executors, self.books, self.catalogue, requests[0].call_id)
            results = await asyncio.gather(*(pool.call(request) for request in requests))
            assert await pool.drain() == 0
            return list(results)

        return asyncio.run(main())

    def one(self, request: ToolRequest) -> ToolResult:
        """Its result, with the books in balance after it."""
        (result,) = self.call(request)
        assert isinstance(result, ToolResult), result
        assert result.entry.charged_nanousd <= self.most(request) * (1 + result.entry.retries)
        self.balance()
        return result

    def most(self, request: ToolRequest) -> int:
        entry = self.catalogue.entries[request.offer.identity]
        return most_cost_nanousd(entry, request.offer.prices)

    def balance(self) -> dict[str, float]:
        """What the guard holds is what the ledger's entries sum to, and no call is still open."""
        assert not any(ray.get([executor.drain.remote() for executor in self.executors]))

        def figures(actor: Any) -> tuple[int, int, int]:
            books = actor._books
            charged = sum(total.charged_nanousd for total in books.ledger.by_identity.values())
            return books.guard.committed_nanousd, charged, len(books.guard._held)

        committed, charged, held = ray.get(self.books.__ray_call__.remote(figures))
        assert (committed, held) == (charged, 0)
        closing = ray.get(self.books.close_step.remote(0))
        assert closing.totals["ledger/misposted"] == 0
        return dict(closing.totals)


def world_of(entries: Mapping[str, Entry], tape: CassetteConfig | None = None) -> Iterator[World]:
    catalogue = Catalogue(entries, "prices")
    books: Any = Books.options(num_cpus=0).remote("run", None, SpendLimits())
    executors: list[Any] = [
        ToolExecutor.options(num_cpus=0.1).remote(catalogue, books, (i, 2), False, tape)
        for i in range(2)
    ]
    ray.get([executor.ready.remote() for executor in executors])
    yield World(catalogue, books, executors)
    for actor in (*executors, books):
        ray.kill(actor)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [sys.executable, str(Path(__file__).parent / "bad_server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.kill()


@pytest.fixture(scope="module")
def world(ray_cluster: str, url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("functions")
    (folder / "bad_functions.py").write_text(MODULE)
    entries = {}
    for name, day in ENDPOINTS.items():
        settings = {"base_urls": [url], "model": name, "extra_body": {"script": day.script}}
        settings |= day.settings or {}
        entries[name] = entry_of(name, "endpoint", settings, retries=day.retries)
    for name in FUNCTIONS:
        settings = {"path": f"bad_functions:{name}", "python_path": [str(folder)]}
        settings |= {"memory_mib": 4096}
        patience = {"deadline_s": 60} if name == "shout" else {}
        entries[f"f {name}"] = entry_of(f"f {name}", "function", settings, **patience)
    sandbox = {"wall_s": 2, "cpu_s": 1, "memory_mib": 256}
    entries["python"] = entry_of("python", "python", sandbox, deadline_s=30)
    yield from world_of(entries)


Made = Callable[..., ToolRequest]


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_bad_day_of_an_endpoint(world: World, make_request: Made, name: str) -> None:
    day, entry = ENDPOINTS[name], world.catalogue.entries[name]
    result = world.one(make_request(entry, call_id=name))
    assert (result.error, result.entry.error) == (day.error, day.error)
    assert day.says in result.text and result.text.startswith("error: ") is bool(day.error)
    assert result.entry.retries == day.retries
    charged, most = result.entry.charged_nanousd, world.most(make_request(entry))
    if day.error is not None:
        assert charged == (0 if day.free else most)  # the most, where nobody knows
    elif name != "half once":
        assert 0 < charged < most  # estimated where the server's figures cannot be


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_bad_day_of_a_function(world: World, make_request: Made, name: str) -> None:
    error, says = FUNCTIONS[name]
    mark = f"600.{id(name)}"
    arguments = {"mark": mark} if name == "fork" else {}
    request = make_request(world.catalogue.entries[f"f {name}"], arguments, call_id=f"f {name}")
    result = world.one(request)
    assert result.error == error and says in result.text
    if name == "fork":
        left = [p for p in psutil.process_iter(["cmdline"]) if mark in (p.info["cmdline"] or ())]
        gone, alive = psutil.wait_procs(left, timeout=10)
        assert not alive


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_bad_day_of_a_program(
    world: World, make_request: Made, sandbox_here: None, name: str
) -> None:
    code, says = PROGRAMS[name]
    request = make_request(world.catalogue.entries["python"], {"code": code}, call_id=f"p {name}")
    result = world.one(request)
    assert result.error is None and len(result.text) < 100_000
    assert any(way in result.text for way in says.splitlines())


def test_after_all_bad_days_the_executors_answer_as_before(
    world: World, make_request: Made
) -> None:
    requests = [
        make_request(world.catalogue.entries[name], call_id=f"{name} {i}")
        for name in ("no usage", "failing", "f shout")
        for i in range(3)
    ]
    results = world.call(*requests)
    assert all(isinstance(result, ToolResult) for result in results)
    texts = [result.text for result in results if isinstance(result, ToolResult)]
    assert texts.count("fine") == 3 and texts.count("hoarse") == 3
    loads = ray.get([executor.load.remote() for executor in world.executors])
    assert [running(load) for load in loads] == [0, 0]
    world.balance()


def test_on_a_full_disk_under_the_cassette_the_calls_go_on_and_it_is_told_once(
    ray_cluster: str, url: str, make_request: Made, tmp_path: Path
) -> None:
    long = json.dumps({"choices": [{"message": {"content": "x" * 9_000}, "finish_reason": "stop"}]})
    script = {"status": 200, "headers": JSON, "parts": [long]}
    settings = {"base_urls": [url], "model": "m", "extra_body": {"script": script}}
    entry = entry_of("model", "endpoint", settings)
    tape = CassetteConfig(CassetteMode.RECORD, str(tmp_path / "tape"))

    def no_room(actor: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))

    for world in world_of({"model": entry}, tape):
        ray.get([executor.__ray_call__.remote(no_room) for executor in world.executors])
        requests = [make_request(entry, call_id=f"c{i}", seed=i) for i in range(60)]
        results = world.call(*requests)
        told = [r.text for r in results if isinstance(r, ToolResult) and r.error is None]
        assert told == ["x" * 9_000] * 60
        assert ray.get([executor.drain.remote() for executor in world.executors]) == [0, 0]
        failures = ray.get(world.books.close_step.remote(1)).failures
        assert 1 <= len(failures) <= 2  # once an executor
        assert {(failure.kind, failure.where) for failure in failures} == {
            (FailureKind.INFRASTRUCTURE, tape.path)
        }
        world.balance()
        assert world.call(make_request(entry, call_id="after", seed=99))[0].text == "x" * 9_000
        assert ray.get(world.books.close_step.remote(1)).failures == ()


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_dead_executor_costs_its_calls_the_most_and_one_more_try_where_it_may(
    ray_cluster: str, bad_server: Any, make_request: Made, idempotent: bool
) -> None:
    script = FINE | {"first": {"end": "hang"}}
    settings = {"base_urls": [bad_server.url], "model": "m", "extra_body": {"script": script}}
    entry = entry_of("model", "endpoint", settings, deadline_s=60.0, idempotent=idempotent)
    request = make_request(entry)

    async def until_asked() -> None:
        while not bad_server.seen()["bodies"]:
            await asyncio.sleep(0.05)

    for world in world_of({"model": entry}):

        async def main(world: World = world) -> ToolResult | Failure:
            pool = ToolPool(world.executors, world.books, world.catalogue, "dying")
            call = asyncio.create_task(pool.call(request))
            await asyncio.wait_for(until_asked(), 30)
            loads = await asyncio.gather(*(e.load.remote() for e in world.executors))
            busy = [running(load) for load in loads]
            ray.kill(world.executors[busy.index(1)], no_restart=False)
            result = await call
            assert await pool.drain() == 0
            return result

        result = asyncio.run(main())
        ray.get([executor.ready.remote() for executor in world.executors])
        totals, most = world.balance(), world.most(request)
        assert totals["ledger/fault/lost"] == 1
        if idempotent:
            assert isinstance(result, ToolResult) and result.text == "fine"
            assert totals["ledger/calls"] == 2
            charged_nanousd = most + result.entry.charged_nanousd
        else:
            assert isinstance(result, Failure) and result.kind is FailureKind.INFRASTRUCTURE
            assert totals["ledger/calls"] == 1
            charged_nanousd = most
        assert totals["ledger/charged_usd"] == pytest.approx(charged_nanousd / 1e9)
