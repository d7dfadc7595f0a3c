"""The sandbox as programs and callers see it. Attacks are in adversarial/."""

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from orchestra_ray.sandbox.command import SandboxError, SandboxLimits
from orchestra_ray.sandbox.rootfs import cache_folder
from orchestra_ray.sandbox.run import Outcome, Sandbox, check

from ..leftovers import descriptors, processes

SLEEP = """
import os, sys
for _ in range(3):
    os.fork()
os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(99)", "{mark}"])
"""


@pytest.fixture(scope="module")
def sandbox(sandbox_here: None) -> Sandbox:
    return Sandbox(SandboxLimits())


@pytest.fixture
def run(sandbox: Sandbox) -> Callable[[str], Outcome]:
    return lambda program: asyncio.run(sandbox.run(program))


@pytest.fixture
def mark() -> str:
    return f"marked-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture
def nothing_is_left(mark: str) -> Iterator[None]:
    """Neither a process nor a descriptor, and at once: nothing is waited for."""
    held, children = descriptors(), processes()
    yield
    assert bearers(mark) == []
    assert not processes() - children
    assert not descriptors() - held


def bearers(mark: str) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if mark in (process.info["cmdline"] or ())]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def test_what_a_program_prints_and_how_it_ends_comes_back(run: Callable[[str], Outcome]) -> None:
    outcome = run("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (outcome.stdout.text, outcome.stderr.text) == ("out\n", "err\n")
    assert (outcome.exit_code, outcome.limit) == (3, None)
    assert not outcome.stdout.cut and outcome.stdout.size_bytes == 4


def test_a_traceback_names_the_programs_own_lines(run: Callable[[str], Outcome]) -> None:
    lines = run("def divide():\n    return 1 / 0\n\ndivide()").stderr.text.splitlines()
    assert [line for line in lines if line.startswith("  File")] == [
        '  File "/tmp/program.py", line 4, in <module>',
        '  File "/tmp/program.py", line 2, in divide',
    ]
    assert "    return 1 / 0" in lines and lines[-1] == "ZeroDivisionError: division by zero"


def test_a_syntax_error_is_the_programs(run: Callable[[str], Outcome]) -> None:
    outcome = run("print(1)\nif True print(2)")
    assert outcome.exit_code == 1 and outcome.stdout.text == ""
    assert outcome.stderr.text.startswith('  File "/tmp/program.py", line 2')


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        ("import sys; print(__name__, __file__, sys.argv)", "__main__ /tmp/program.py"),
        ("print('grüße, 世界')", "grüße, 世界"),
        ("open('mine.py', 'w').write('value = 7')\nimport mine; print(mine.value)", "7"),
        ("import os, tempfile; print(tempfile.gettempdir(), os.getcwd())", "/tmp /tmp"),
        ("import multiprocessing as m; print(m.Pool(2).map(abs, [1, -2]))", "[1, 2]"),
        ("import subprocess as s, sys; s.run([sys.executable, '-c', 'print(5)'])", "5"),
        ("import sqlite3, ssl, ctypes, lzma, decimal, hashlib; print('all')", "all"),
        ("import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))))", "<class"),
        ("print(1); exit()", "1"),
        ("", ""),
    ],
)
def test_it_is_python_as_one_knows_it(
    run: Callable[[str], Outcome], program: str, printed: str
) -> None:
    outcome = run(program)
    assert outcome.exit_code == 0, outcome.stderr.text
    assert outcome.stdout.text.startswith(printed)


ABOUT = """
import inspect, sys, typing
class Point(typing.NamedTuple):
    x: int = 1
def deepest(n):
    try:
        return deepest(n + 1)
    except RecursionError:
        return n
def typed(a: int) -> "str": pass
value: int = 1
print(__name__, sys.argv[1:], sorted(globals()), type(__builtins__), type(__loader__).__name__)
print(deepest(1), sys.getrecursionlimit(), len(inspect.stack()), len(sys.orig_argv))
print(typed.__annotations__, __annotations__, Point.__annotations__, inspect.getsource(typed))
print(sys.stdin.read(), __file__ == sys.argv[0], sys.modules["__main__"].value)
"""


@pytest.mark.parametrize("first", ["", "from __future__ import annotations\n"])
def test_a_program_is_what_it_is_for_the_interpreter_alone(
    run: Callable[[str], Outcome], tmp_path: Path, first: str
) -> None:
    path = tmp_path / "program.py"
    path.write_text(first + ABOUT)
    alone = subprocess.run(
        [sys._base_executable, str(path)],  # type: ignore[attr-defined]
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={"LANG": "C.UTF-8", "PYTHONUTF8": "1"},
    )
    assert alone.returncode == 0, alone.stderr
    assert run(first + ABOUT).stdout.text == alone.stdout


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        ("# -*- coding: latin-1 -*-\nprint('é')", "é"),
        ("#!/usr/bin/python\n# vim: set fileencoding=cp1251 :\nprint('мир')", "мир"),
        ("# coding: latin-1\nprint('мир')", "Ð¼Ð¸Ñ\x80"),  # it cannot be saved as it says
        ("# coding: unicode_escape\nprint(1)", "1"),
        ("# coding: utf-8\r\nprint('''a\r\nb''')\r\n", "a\nb"),
        ("\ufeffprint('世')", "世"),
    ],
)
def test_a_program_means_its_text_whatever_encoding_it_states(
    run: Callable[[str], Outcome], program: str, printed: str
) -> None:
    outcome = run(program)
    assert outcome.stdout.text == f"{printed}\n", outcome.stderr.text


@pytest.mark.parametrize(
    "program", ["print(1)\n\0", "# coding: no-such\nprint(1)", "# coding: ascii\nprint('é')"]
)
def test_a_file_that_is_no_program_is_the_programs_error(
    run: Callable[[str], Outcome], program: str
) -> None:
    outcome = run(program)
    assert outcome.exit_code == 1 and "Error" in outcome.stderr.text


def test_the_same_program_prints_the_same_again(run: Callable[[str], Outcome]) -> None:
    program = "print({'a', 'b', 'c', 'd'}, hash('word'), __import__('sys').path)"
    assert run(program).stdout == run(program).stdout


def test_a_program_may_be_longer_than_a_pipe(run: Callable[[str], Outcome]) -> None:
    assert run(f"x = {'y' * 200_000!r}\nprint(len(x))").stdout.text == "200000\n"


def test_runs_beside_each_other_do_not_mix(sandbox: Sandbox) -> None:
    async def several() -> list[Outcome]:
        programs = (f"open('n', 'x').write('{n}'); print(open('n').read())" for n in range(12))
        return await asyncio.gather(*(sandbox.run(program) for program in programs))

    texts = [outcome.stdout.text for outcome in asyncio.run(several())]
    assert texts == [f"{n}\n" for n in range(12)]


@pytest.mark.usefixtures("nothing_is_left")
def test_a_cancelled_run_is_dead_when_the_call_returns(sandbox: Sandbox, mark: str) -> None:
    async def cancel() -> None:
        task = asyncio.create_task(sandbox.run(SLEEP.format(mark=mark)))
        await until(lambda: len(bearers(mark)) == 8)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bearers(mark) == []

    asyncio.run(cancel())


@pytest.mark.usefixtures("nothing_is_left")
def test_a_deadline_around_the_call_holds(sandbox: Sandbox, mark: str) -> None:
    async def hurry() -> None:
        async with asyncio.timeout(0.5):
            await sandbox.run(SLEEP.format(mark=mark))

    with pytest.raises(TimeoutError):
        asyncio.run(hurry())


@pytest.mark.usefixtures("nothing_is_left")
def test_a_call_can_be_cancelled_at_any_moment_of_its_start(sandbox: Sandbox, mark: str) -> None:
    async def cancel_after(delay_s: float) -> None:
        task = asyncio.create_task(sandbox.run(SLEEP.format(mark=mark)))
        await asyncio.sleep(delay_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert bearers(mark) == []

    async def cancel_all() -> None:
        for step in range(24):
            await cancel_after(step * 0.003)

    asyncio.run(cancel_all())


# asyncio's pipes complain that their loop is gone.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_event_loop_that_ends_takes_its_runs_along(sandbox: Sandbox, mark: str) -> None:
    """`asyncio.run` cancels every task, the sandbox's own among them, so no task can wait."""
    children = psutil.Process().children(recursive=True)

    async def leave() -> None:
        task = asyncio.create_task(sandbox.run(SLEEP.format(mark=mark)))
        await until(lambda: len(bearers(mark)) == 8)
        assert not task.done()

    asyncio.run(leave())
    asyncio.run(until(lambda: bearers(mark) == []))
    asyncio.run(until(lambda: psutil.Process().children(recursive=True) == children))
    gc.collect()


@pytest.mark.usefixtures("nothing_is_left")
def test_close_ends_the_runs(sandbox: Sandbox, mark: str) -> None:
    async def close() -> Outcome:
        task = asyncio.create_task(sandbox.run(SLEEP.format(mark=mark)))
        await until(lambda: len(bearers(mark)) == 8)
        await sandbox.close()
        assert bearers(mark) == []
        return await task

    with pytest.raises(SandboxError, match="closed"):
        asyncio.run(close())


def test_it_runs_on_uvloop_as_well(sandbox: Sandbox, mark: str) -> None:
    """Ray's actors run on it where it is installed."""
    uvloop = pytest.importorskip("uvloop")

    async def run_and_cancel() -> Outcome:
        slow = asyncio.create_task(sandbox.run(SLEEP.format(mark=mark)))
        await until(lambda: len(bearers(mark)) == 8)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert bearers(mark) == []
        return await sandbox.run("import os; print(os.fstat(2) is None); os.fstat(3)")

    held = []
    for _ in range(2):  # from the first on libuv keeps a pipe of its own
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(run_and_cancel())
        assert outcome.stdout.text == "False\n" and "Bad file descriptor" in outcome.stderr.text
        held.append(len(os.listdir("/proc/self/fd")))
    assert held[0] == held[1]


def test_distributions_are_seen_where_they_are_asked_for(sandbox: Sandbox) -> None:
    program = "import psutil; print(psutil.__name__, psutil._psplatform.cext.__file__)"
    richer = Sandbox(SandboxLimits(), packages=["psutil"])
    assert asyncio.run(richer.run(program)).stdout.text.startswith("psutil /usr/packages/psutil/")
    assert "ModuleNotFoundError" in asyncio.run(sandbox.run(program)).stderr.text


@pytest.mark.usefixtures("sandbox")
def test_a_distribution_that_is_not_installed_is_named() -> None:
    with pytest.raises(SandboxError, match="no-such-distribution"):
        Sandbox(SandboxLimits(), packages=["no-such-distribution"])


def test_without_bubblewrap_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="apt install bubblewrap"):
        Sandbox(SandboxLimits())
    assert check() == "sandbox: there is no bwrap; apt install bubblewrap"


@pytest.mark.usefixtures("sandbox")
def test_where_user_namespaces_are_denied_nothing_is_run() -> None:
    """A process in a user namespace of its own that allows no other."""
    script = """
import ctypes, os
from orchestra_ray.sandbox.run import check
assert ctypes.CDLL(None).unshare(0x10000000) == 0
with open("/proc/sys/user/max_user_namespaces", "w") as file:
    file.write("0")
print(check())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=dict(os.environ, XDG_CACHE_HOME=str(cache_folder().parent)),
    )
    assert done.stdout.startswith("sandbox: bwrap: ") and done.stdout.count("\n") == 1, done.stderr
    assert "allow user namespaces: sysctl" in done.stdout


@pytest.mark.usefixtures("sandbox")
def test_a_host_that_allows_less_is_no_hindrance() -> None:
    script = "from orchestra_ray.sandbox.run import check; print(check())"
    limits = ("--core=0:0", "--nofile=512:512", "--memlock=0:0", "--cpu=60:60")
    done = subprocess.run(
        ["prlimit", *limits, sys.executable, "-c", script], capture_output=True, text=True
    )
    assert done.stdout == "None\n", done.stderr


def test_limits_under_which_python_cannot_start_are_refused_at_once(sandbox_here: None) -> None:
    with pytest.raises(SandboxError, match="^sandbox: "):
        Sandbox(SandboxLimits(memory_mib=1))
