"""Real functions in a module of the test's, run by real processes."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Asker, Offer, Task, ToolRequest
from orchestra_ray.tools.functions import FunctionLimits, FunctionTool
from orchestra_ray.tools.tool import Fault, FaultKind

REPOSITORY = Path(__file__).parents[2]
OFFER = Offer("function", "function", "tool", "", Prices(), 0.0)
ASKER = Asker(step=1, group_id="g", episode_id="e", turn=0)
TASK = Task("t", "family", "question", {})

MODULE = '''
import asyncio, ctypes, dataclasses, os, subprocess, sys, threading, time
from datetime import date
from typing import Annotated, Any, Literal, Optional
from pydantic import BaseModel, Field

class Point(BaseModel):
    x: float
    y: float = 0.0

@dataclasses.dataclass
class Found:
    when: date
    names: set[str]

calls = 0

def convert(
    amount: Annotated[float, Field(description="how much")],
    unit: Literal["km", "mile"],
    digits: Optional[int] = 2,
    *,
    schema: bool = False,
) -> str:
    """Converts a length.

    Between kilometres and miles.
    """
    factor = 0.621371 if unit == "km" else 1.609344
    return f"{round(amount * factor, digits)}{' schema' if schema else ''}"

def echo(value: Any) -> Any: return value
def add(a: int, b: int = 1) -> int: return a + b
def length(point: Point) -> float: return (point.x**2 + point.y**2) ** 0.5
def find(when: date) -> Found: return Found(when, {"a"})
def nothing() -> None: pass
def pid() -> int: return os.getpid()
def stored(key: str) -> str: return os.environ[key]

def count() -> int:
    global calls
    calls += 1
    return calls

lock: Any = None

async def greet(name: str) -> str:
    """Greets, and needs one event loop over all its calls."""
    global lock
    lock = lock or asyncio.Lock()
    async with lock:
        await asyncio.sleep(0.01)
    lock = lock if lock._get_loop() is asyncio.get_running_loop() else 1 / 0
    return "hello " + name

def shout(text: str) -> str:
    print(text * 1000, flush=True)
    sys.stderr.write(text * 1000)
    os.write(1, text.encode() * 1000)
    subprocess.run(["sh", "-c", "echo loud; cat; echo loud >&2"], check=True)
    return f"said {sys.stdin.read()!r}"

def inherited() -> str:
    """The open files of a program that is started carelessly."""
    command = ["ls", "-l", "/proc/self/fd"]
    return subprocess.run(command, close_fds=False, capture_output=True, text=True).stdout

def slow(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()

def act(what: str) -> Any:
    match what:
        case "exit": os._exit(3)
        case "segfault": ctypes.string_at(0)
        case "kill": os.kill(os.getpid(), 9)
        case "hang": time.sleep(3600)
        case "hold the interpreter": ctypes.PyDLL(None).sleep(3600)
        case "raise": raise KeyError("first\\nsecond")
        case "sys.exit": sys.exit(5)
        case "interrupt": raise KeyboardInterrupt
        case "recursion": return act(what)
        case "gigabyte": return "x" * 10**9
        case "shout a gigabyte":
            for _ in range(1000): print("x" * 10**6)
            return "printed"
        case "eat memory": return len(bytearray(4 * 2**30))
        case "long error": raise ValueError("x" * 10**6)
        case "no JSON": return object()
        case "close everything": os.closerange(0, 1000); time.sleep(3600)
        case "garbage":
            for fd in range(3, 200):
                try: os.write(fd, b"\\xff" * 100)
                except OSError: pass
            time.sleep(3600)
    return "fine"

def start_child(how: str, marker: str) -> str | None:
    """Leaves a child process behind, and its number in a file."""
    if how == "not at all": return None
    if how == "fork":
        if (child := os.fork()) == 0:
            time.sleep(3600)
            os._exit(0)
    else:
        child = subprocess.Popen(["sleep", "3600"]).pid
    with open(marker, "w") as file:
        file.write(f"{os.getpid()} {child}")
    if how == "fork": os._exit(1)
    time.sleep(3600)

def unhinted(x): return x
def many(*values: int): return values
def positional(x: int, /): return x
def unhintable(x: threading.Thread): return x
def unknown(x: "Nowhere"): return x
constant = 5
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "mine").mkdir()
    (folder / "mine" / "__init__.py").write_text("")
    (folder / "mine" / "tools.py").write_text(MODULE)
    (folder / "broken.py").write_text("x = 1\nraise RuntimeError('not today\\nnor tomorrow')\n")
    (folder / "syntax.py").write_text("def f(:\n")
    (folder / "leaves.py").write_text("import os\nos._exit(7)\n")
    (folder / "hangs.py").write_text("import time\ntime.sleep(3600)\n")
    (folder / "needs.py").write_text("import nowhere_at_all\n")
    return folder


@dataclass(frozen=True)
class Shared:
    """A tool that the tests of this module share, and the loop on which it lives."""

    tool: FunctionTool
    runner: asyncio.Runner

    def text(self, **arguments: Any) -> str:
        return self.runner.run(text(self.tool, **arguments))

    def warm(self, **arguments: Any) -> str:
        return self.runner.run(warm(self.tool, **arguments))

    def fault(self, **arguments: Any) -> Fault:
        return self.runner.run(fault(self.tool, **arguments))


def share(folder: Path, name: str, **limits: Any) -> Iterator[Shared]:
    with asyncio.Runner() as runner:
        tool = FunctionTool(f"mine.tools:{name}", FunctionLimits(**limits), [folder])
        yield Shared(tool, runner)
        runner.run(asyncio.wait_for(tool.close(), 20))


@pytest.fixture(scope="module")
def convert(folder: Path) -> Iterator[Shared]:
    yield from share(folder, "convert")


@pytest.fixture(scope="module")
def act(folder: Path) -> Iterator[Shared]:
    yield from share(folder, "act", deadline_s=5.0, memory_mib=2048)


@pytest.fixture(scope="module")
def echo(folder: Path) -> Iterator[Shared]:
    yield from share(folder, "echo")


Open = Callable[..., Any]


@pytest.fixture
def opened(folder: Path) -> Open:
    @asynccontextmanager
    async def opened(name: str, **limits: Any) -> AsyncIterator[FunctionTool]:
        path = name if ":" in name else f"mine.tools:{name}"
        tool = FunctionTool(path, FunctionLimits(**limits), [folder])
        try:
            yield tool
        finally:
            await asyncio.wait_for(tool.close(), 20)

    return opened


def asked(arguments: dict[str, Any]) -> ToolRequest:
    return ToolRequest("call", ASKER, OFFER, arguments, TASK, 0, 0)


async def text(tool: FunctionTool, **arguments: Any) -> str:
    return (await asyncio.wait_for(tool.call(asked(arguments)), 60)).text


async def warm(tool: FunctionTool, **arguments: Any) -> str:
    """The answer, also where the start of the process takes longer than the tool's deadline."""
    for _ in range(50):
        try:
            return await text(tool, **arguments)
        except Fault as found:
            assert found.kind is FaultKind.TIMEOUT
    raise AssertionError("no answer")


async def fault(tool: FunctionTool, **arguments: Any) -> Fault:
    with pytest.raises(Fault) as caught:
        await text(tool, **arguments)
    return caught.value


def alive(pid: int) -> bool:
    """A zombie counts as dead: whose child it was is not here to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int) -> bool:
    deadline_s = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return not alive(pid)


# What it says of itself


def test_the_signature_comes_from_hints_defaults_and_docstring(folder: Path) -> None:
    signature = FunctionTool("mine.tools:convert", python_path=[folder]).signature
    assert signature.name == "convert"
    assert signature.description == "Converts a length.\n\nBetween kilometres and miles."
    jsonschema.Draft202012Validator.check_schema(signature.schema)
    assert signature.schema == {
        "type": "object",
        "additionalProperties": False,
        "required": ["amount", "unit"],
        "properties": {
            "amount": {"type": "number", "description": "how much"},
            "unit": {"type": "string", "enum": ["km", "mile"]},
            "digits": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": 2},
            "schema": {"type": "boolean", "default": False},
        },
    }


def test_a_function_without_arguments_has_an_empty_object(folder: Path) -> None:
    schema = FunctionTool("mine.tools:nothing", python_path=[folder]).signature.schema
    assert schema == {"type": "object", "properties": {}, "additionalProperties": False}


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("mine.tools", "not an import path; write package.module:name"),
        ("mine.tools:", "not an import path"),
        (":convert", "not an import path"),
        ("nowhere:f", "No module named 'nowhere'; correct the path, or set PYTHONPATH"),
        ("needs:f", "No module named 'nowhere_at_all'"),
        ("mine.tools:absent", "has no attribute 'absent'; correct the name"),
        ("mine.tools:constant", "constant is a int; name a function"),
        ("mine.tools:unhinted", "argument x has no type hint; add one"),
        ("mine.tools:many", "argument values cannot be given by name"),
        ("mine.tools:positional", "argument x cannot be given by name"),
        ("mine.tools:unhintable", "use hints that JSON can hold"),
        ("mine.tools:unknown", "name 'Nowhere' is not defined"),
        ("broken:f", "its import fails: RuntimeError: not today; correct it"),
        ("syntax:f", "SyntaxError"),
        ("leaves:f", "exit code 7 at its import"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_one_line(folder: Path, path: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        FunctionTool(path, python_path=[folder])
    line = str(error.value)
    assert line.startswith(f"function {path}: ") and says in line and "\n" not in line


def test_a_module_that_never_ends_its_import_is_one_line(folder: Path) -> None:
    with pytest.raises(ConfigError, match="hangs:f: not ready within 1 s at its import"):
        FunctionTool("hangs:f", FunctionLimits(start_s=1.0), [folder])


# Calls


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("convert", {"amount": 10, "unit": "km"}, "6.21"),
        ("convert", {"amount": 1.0, "unit": "mile", "digits": None, "schema": True}, "2 schema"),
        ("add", {"a": 2}, "3"),
        ("length", {"point": {"x": 3.0, "y": 4.0}}, "5.0"),
        ("find", {"when": "2025-01-31"}, '{"when":"2025-01-31","names":["a"]}'),
        ("nothing", {}, "null"),
        ("greet", {"name": "you"}, "hello you"),
        ("echo", {"value": {"a": [1, None, True]}}, '{"a":[1,null,true]}'),
    ],
)
def test_an_answer_is_text_or_becomes_json(
    opened: Open, name: str, arguments: dict[str, Any], answer: str
) -> None:
    async def run() -> str:
        async with opened(name) as tool:
            return await text(tool, **arguments)

    assert asyncio.run(run()) == answer


PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text()
JSON = st.recursive(PLAIN, lambda one: st.lists(one) | st.dictionaries(st.text(), one))


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_any_json_goes_in_and_comes_out(echo: Shared, value: Any) -> None:
    answer = echo.text(value=value)
    assert (answer if isinstance(value, str) else json.loads(answer)) == value


@pytest.mark.parametrize(
    ("arguments", "kind", "line"),
    [
        ({"unit": "km"}, FaultKind.MISSING_ARGUMENT, "argument amount is missing"),
        ({"amount": 1, "unit": "km", "x": 1}, FaultKind.EXTRA_ARGUMENT, "there is no argument x"),
        ({"amount": "1", "unit": "km"}, FaultKind.WRONG_TYPE, "argument amount: Input should be"),
        (
            {"amount": 1, "unit": "foot"},
            FaultKind.WRONG_TYPE,
            "argument unit: Input should be 'km'",
        ),
        ({"amount": 1, "unit": "\ud800"}, FaultKind.BAD_JSON, "Invalid JSON"),
    ],
)
def test_wrong_arguments_are_named(
    convert: Shared, arguments: dict[str, Any], kind: FaultKind, line: str
) -> None:
    found = convert.fault(**arguments)
    assert found.kind is kind and str(found).startswith(line)
    assert convert.text(amount=1, unit="km") == "0.62"


def test_calls_share_a_process_and_one_event_loop(opened: Open) -> None:
    async def run() -> list[str]:
        async with opened("count") as counter, opened("greet") as greeter:
            greetings = await asyncio.gather(*(text(greeter, name=str(n)) for n in range(5)))
            assert greetings == [f"hello {n}" for n in range(5)]
            return [await text(counter) for _ in range(5)]

    assert asyncio.run(run()) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("processes", [1, 3])
def test_calls_in_flight_use_at_most_the_processes_allowed(opened: Open, processes: int) -> None:
    async def run() -> set[str]:
        async with opened("slow", processes=processes) as tool:
            return set(await asyncio.gather(*(text(tool, seconds=0.1) for _ in range(12))))

    assert len(asyncio.run(run())) == processes


def test_what_a_function_prints_or_reads_is_not_the_protocol(opened: Open) -> None:
    async def run() -> list[str]:
        async with opened("shout") as tool:
            return [await text(tool, text="{}\n\0") for _ in range(3)]

    assert asyncio.run(run()) == ["said ''"] * 3


def test_a_program_that_a_function_starts_does_not_hold_the_channel(opened: Open) -> None:
    async def run() -> str:
        async with opened("inherited") as tool:
            return await text(tool)

    files = asyncio.run(run())
    assert "/dev/null" in files and "socket:" not in files


def test_secrets_of_the_environment_reach_the_function(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVICE_KEY", "sesame")

    async def run() -> str:
        async with opened("stored") as tool:
            return await text(tool, key="MY_SERVICE_KEY")

    assert asyncio.run(run()) == "sesame"


# Bad functions


@pytest.mark.parametrize(
    ("what", "kind", "line"),
    [
        ("exit", FaultKind.SERVER_ERROR, "the function's process ended: exit code 3"),
        ("segfault", FaultKind.SERVER_ERROR, "the function's process ended: SIGSEGV"),
        ("kill", FaultKind.SERVER_ERROR, "the function's process ended: SIGKILL"),
        ("close everything", FaultKind.SERVER_ERROR, "the function's process ended: SIGKILL"),
        ("hang", FaultKind.TIMEOUT, "no answer within 5 s"),
        ("hold the interpreter", FaultKind.TIMEOUT, "no answer within 5 s"),
        ("raise", FaultKind.SERVER_ERROR, "KeyError: 'first\\nsecond'"),
        ("sys.exit", FaultKind.SERVER_ERROR, "SystemExit: 5"),
        ("interrupt", FaultKind.SERVER_ERROR, "KeyboardInterrupt"),
        ("recursion", FaultKind.SERVER_ERROR, "RecursionError: maximum recursion depth"),
        ("eat memory", FaultKind.SERVER_ERROR, "MemoryError"),
        ("long error", FaultKind.SERVER_ERROR, "ValueError: xxx"),
        ("no JSON", FaultKind.BAD_REPLY, "object is not JSON: "),
        ("garbage", FaultKind.BAD_REPLY, "answered with 18446744073709551615 bytes, too many"),
    ],
)
def test_what_a_function_does_harms_only_its_call(
    act: Shared, what: str, kind: FaultKind, line: str
) -> None:
    assert act.warm(what="nothing bad") == "fine"
    found = act.fault(what=what)
    assert found.kind is kind and str(found).startswith(line)
    assert len(str(found)) < 600 and "\n" not in str(found)
    assert act.warm(what="nothing bad") == "fine"


def test_a_gigabyte_of_answer_is_refused_and_of_output_dropped(opened: Open) -> None:
    async def run() -> None:
        async with opened("act") as tool:
            found = await fault(tool, what="gigabyte")
            assert found.kind is FaultKind.BAD_REPLY
            assert str(found) == "answered with 1000000000 characters, too many"
            assert await text(tool, what="shout a gigabyte") == "printed"

    asyncio.run(run())


def test_waiting_for_a_busy_process_has_a_deadline_and_harms_nobody(opened: Open) -> None:
    async def run() -> None:
        async with opened("slow", deadline_s=8.0) as tool:
            first_pid = await warm(tool, seconds=0)
            busy = asyncio.create_task(text(tool, seconds=3))
            await asyncio.sleep(0)
            waiting = [asyncio.create_task(fault(tool, seconds=8)) for _ in range(3)]
            assert await busy == first_pid
            assert {one.kind for one in await asyncio.gather(*waiting)} == {FaultKind.TIMEOUT}

    asyncio.run(run())


def test_a_cancelled_call_ends_its_process_and_the_next_call_works(opened: Open) -> None:
    async def run() -> tuple[int, str]:
        async with opened("slow") as tool:
            pid = int(await text(tool, seconds=0))
            call = asyncio.create_task(text(tool, seconds=3600))
            await asyncio.sleep(0.1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await asyncio.to_thread(gone, pid)
            return pid, await text(tool, seconds=0)

    pid, other = asyncio.run(run())
    assert str(pid) != other


def test_a_start_longer_than_a_calls_deadline_is_not_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = "import time\ntime.sleep(1.5)\ndef f() -> str: return 'at last'\n"
    (folder / "heavy.py").write_text(source)

    async def run() -> str:
        tool = FunctionTool("heavy:f", FunctionLimits(deadline_s=0.4), [folder])
        try:
            first = await fault(tool)
            assert first.kind is FaultKind.TIMEOUT
            return await warm(tool)
        finally:
            await tool.close()

    assert asyncio.run(run()) == "at last"


def test_a_module_that_breaks_later_is_unavailable_and_mends(folder: Path) -> None:
    module = folder / "changing.py"
    good = "import os\ndef f(leave: bool) -> str:\n    if leave: os._exit(1)\n    return 'good'\n"
    module.write_text(good)

    async def run() -> None:
        tool = FunctionTool("changing:f", python_path=[folder])
        try:
            assert await text(tool, leave=False) == "good"
            module.write_text("raise OSError('disk')")
            assert (await fault(tool, leave=True)).kind is FaultKind.SERVER_ERROR
            found = await fault(tool, leave=False)
            assert found.kind is FaultKind.UNAVAILABLE and "OSError: disk" in str(found)
            module.write_text(good + "# mended\n")
            assert await text(tool, leave=False) == "good"
        finally:
            await tool.close()

    asyncio.run(run())


# No process stays


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_what_a_function_started_ends_with_it(opened: Open, how: str, tmp_path: Path) -> None:
    marker = tmp_path / "pids"

    async def run() -> None:
        async with opened("start_child", deadline_s=4.0) as tool:
            await warm(tool, how="not at all", marker="")
            await fault(tool, how=how, marker=str(marker))

    asyncio.run(run())
    assert all(gone(int(pid)) for pid in marker.read_text().split())


def test_a_closed_tool_says_so(opened: Open) -> None:
    async def run() -> Fault:
        async with opened("count") as tool:
            await text(tool)
        return await fault(tool)

    found = asyncio.run(run())
    assert found.kind is FaultKind.UNAVAILABLE and str(found) == "the tool is closed"


def test_close_ends_processes_that_are_free_busy_or_starting(opened: Open) -> None:
    async def run() -> list[int]:
        async with opened("slow", processes=3) as tool:
            pids = await asyncio.gather(*(text(tool, seconds=0.3) for _ in range(2)))
            busy = asyncio.create_task(fault(tool, seconds=3600))
            both = [asyncio.create_task(fault(tool, seconds=3600)) for _ in range(2)]
            await asyncio.sleep(0.05)
            assert len(set(pids)) == 2
            started = time.monotonic()
            await tool.close()
            assert time.monotonic() - started < 5
            faults = await asyncio.gather(busy, *both)
            kinds = {FaultKind.SERVER_ERROR, FaultKind.UNAVAILABLE}
            assert {one.kind for one in faults} <= kinds
            assert (await fault(tool, seconds=0)).kind is FaultKind.UNAVAILABLE
            return list(map(int, pids))

    before = children()
    pids = asyncio.run(run())
    assert all(gone(pid) for pid in pids) and children() == before


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


PARENT = """
import asyncio, sys
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Asker, Offer, Task, ToolRequest
from orchestra_ray.tools.functions import FunctionTool

def ask(seconds):
    offer, asker = Offer("f", "f", "tool", "", Prices(), 0.0), Asker(1, "g", "e", 0)
    return ToolRequest("c", asker, offer, {"seconds": seconds}, Task("t", "f", "q", {}), 0, 0)

async def run():
    tool = FunctionTool("mine.tools:slow", python_path=[sys.argv[1]])
    print((await tool.call(ask(0))).text, flush=True)
    if sys.argv[2] == "busy":
        await tool.call(ask(3600))
    await asyncio.sleep(3600)

asyncio.run(run())
"""


@pytest.mark.parametrize("state", ["free", "busy"])
def test_a_killed_parent_takes_its_processes_along(folder: Path, state: str) -> None:
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", PARENT, str(folder), state]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.2)  # the busy call is under way
    assert alive(pid)
    parent.send_signal(signal.SIGKILL)
    parent.communicate(timeout=20)
    assert gone(pid)
