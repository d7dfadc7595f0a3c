"""Bad days of endpoints, tools, disks and executors, through the real pool and its actors.

Each is one named failure, one observation or one retry, within the deadline of its entry: the pool
ends what is late as a `Failure`, and no test here sees one. Afterwards the spend accounts balance.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
import ray

from orchestra_ray.core.faults import FaultKind
from orchestra_ray.core.records import ToolResult

from .scripts import BadServer
from .worlds import FINE, JSON, Made, World, answer, entry_of, running, world_of

pytestmark = pytest.mark.cpu

HTML, SSE = {"Content-Type": "text/html"}, {"Content-Type": "text/event-stream"}


def piece(text: str) -> str:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"


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
    "down": Day({}, FaultKind.CONNECTION, "the connection failed", free=True, settings=DOWN),
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


@pytest.fixture(scope="module")
def world(
    ray_cluster: str, shared_bad_server: BadServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("functions")
    (folder / "bad_functions.py").write_text(MODULE)
    entries = {}
    for name, day in ENDPOINTS.items():
        settings = {
            "base_urls": [shared_bad_server.url],
            "model": name,
            "extra_body": {"script": day.script},
        }
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


@pytest.mark.parametrize("name", ENDPOINTS)
def test_a_bad_day_of_an_endpoint(world: World, make_request: Made, name: str) -> None:
    day, entry = ENDPOINTS[name], world.catalogue.entries[name]
    result = world.one(make_request(entry, call_id=name))
    assert (result.error, result.entry.error) == (day.error, day.error)
    assert day.says in result.text and result.text.startswith("error: ") is bool(day.error)
    assert result.entry.retries == day.retries
    charged, most = result.entry.charged_nanousd, world.most(make_request(entry))
    if day.error is not None:
        assert charged == (0 if day.free else most)  # the maximum if unknown
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
