"""A user module, and tools made of its functions."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.workers.tools.builtin.function import FunctionLimits, FunctionTool

from .hosted import Held, Open, Shared, quota

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

def hold(told: str) -> None:
    with open(told, "w") as file:
        file.write(f"{os.getpid()}\\n")
    time.sleep(3600)

def slow(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()

def act(what: str) -> Any:
    match what:
        case "exit": os._exit(3)
        case "last words":
            sys.stderr.write("OSError: no licence\\n" + "bye\\n" * 3)
            os._exit(3)
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


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="module")
def convert(folder: Path) -> Iterator[Shared]:
    yield from quota(folder, "convert")


@pytest.fixture(scope="module")
def act(folder: Path) -> Iterator[Shared]:
    yield from quota(folder, "act", deadline_s=5.0, memory_mib=2048)


@pytest.fixture(scope="module")
def echo(folder: Path) -> Iterator[Shared]:
    yield from quota(folder, "echo")


@pytest.fixture
def held(tmp_path: Path) -> Held:
    return Held(tmp_path)


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
