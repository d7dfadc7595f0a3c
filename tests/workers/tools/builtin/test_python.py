"""The text that the policy reads after running a program."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Caller, Task, ToolOption, ToolRequest
from orchestra_ray.sandbox.command import SandboxLimits
from orchestra_ray.workers.tools.builtin.python import CodeTool

LIMITS = SandboxLimits(
    wall_s=60.0,
    cpu_s=1,
    memory_mib=512,
    scratch_files=200,
    output_mib=1,
    stdout_bytes=1000,
    stderr_bytes=300,
)


def request(code: str) -> ToolRequest:
    return ToolRequest(
        call_id="call",
        caller=Caller(step=0, group_id="group", episode_id="episode", turn=0),
        option=ToolOption("code", "code", "tool", "runs Python", Prices(), latency_s=0.0),
        arguments={"code": code},
        task=Task("task", "family", "question", {}),
        seed=0,
        attempt=0,
    )


@pytest.fixture(scope="module")
def tool(sandbox_here: None) -> Iterator[CodeTool]:
    tool = CodeTool(LIMITS)
    yield tool
    asyncio.run(tool.close())


@pytest.fixture
def answer(tool: CodeTool) -> Callable[[str], str]:
    return lambda code: asyncio.run(tool.call(request(code))).text


def test_a_program_that_ends_well_is_its_output(answer: Callable[[str], str]) -> None:
    assert answer("print(6 * 7)") == "42"


def test_stderr_stands_below_stdout(answer: Callable[[str], str]) -> None:
    text = answer("import sys; print('warned', file=sys.stderr); print('done')")
    assert text == "done\n[stderr]\nwarned"


def test_a_program_that_prints_nothing_says_so(answer: Callable[[str], str]) -> None:
    assert answer("x = 1") == "[no output]"


def test_an_exception_comes_with_its_line_and_status(answer: Callable[[str], str]) -> None:
    lines = answer("print('before')\nint('x')").splitlines()
    assert lines[:2] == ["before", "[stderr]"]
    assert '  File "/tmp/program.py", line 2, in <module>' in lines
    assert lines[-2:] == [
        "ValueError: invalid literal for int() with base 10: 'x'",
        "[exit status 1]",
    ]


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("import sys; sys.exit(9)", "[exit status 9]"),
        ("import os; os._exit(200)", "[exit status 200]"),
        ("import sys; sys.exit(137)", "[exit status 137]"),
        ("import os; os._exit(152)", "[exit status 152]"),  # 128 and SIGXCPU
        ("import sys; sys.exit(-1)", "[exit status 255]"),
        ("import sys; sys.exit('why')", "[exit status 1]"),
        ("import os; os.kill(os.getpid(), 9)", "[killed by SIGKILL]"),
        ("import os; os.kill(os.getpid(), 40)", "[killed by signal 40]"),
        ("input()", "[exit status 1]"),
        ("import ctypes; ctypes.string_at(0)", "[killed by SIGSEGV]"),
        ("import os; os.abort()", "[killed by SIGABRT]"),
        ("while True: pass", "[stopped: it used more than 1 s of processor time]"),
        ("while True: print('x' * 999)", "[stopped: it printed more than 1 MiB]"),
        (
            "import time\nfor n in range(999): open(str(n), 'w'); time.sleep(0.001)",
            "[stopped: it made more than 200 files]",
        ),
        (
            "import os, time\nos.fork(), os.fork()\nx = b'x' * (200 * 2**20)\ntime.sleep(60)",
            "[stopped: it used more than 512 MiB of memory]",
        ),
    ],
)
def test_how_a_program_ended_is_said_last(
    answer: Callable[[str], str], code: str, ending: str
) -> None:
    assert answer(f"print('begun', flush=True)\n{code}").splitlines()[-1] == ending


@pytest.mark.usefixtures("tool")
def test_a_program_that_never_ends_is_stopped() -> None:
    hasty = CodeTool(replace(LIMITS, wall_s=1.5))
    text = asyncio.run(hasty.call(request("import time; time.sleep(60)"))).text
    assert text == "[stopped: it ran longer than 1.5 s]"


def test_long_output_is_cut_and_said_to_be(answer: Callable[[str], str]) -> None:
    text = answer("import sys; print('a' * 5000); print('b' * 4000 + 'end', file=sys.stderr)")
    out, out_cut, err_cut, err = text.split("\n")
    assert out == "a" * 1000 and err == "b" * 296 + "end"
    assert out_cut == "[stdout cut: the first 1000 of 5001 bytes]"
    assert err_cut == "[stderr cut: the last 300 of 4004 bytes]"


def test_what_steers_a_terminal_is_escaped(answer: Callable[[str], str]) -> None:
    text = answer(r"print('\x1b[31mred\x00 \u202eabc\ud7ff\n\tindented\r over')")
    assert text == r"\x1b[31mred\x00 \u202eabc" + "\ud7ff\n\tindented" + r"\r over"


def test_what_is_odd_and_valid_is_shown_as_it_was_printed(answer: Callable[[str], str]) -> None:
    """Spaces, joined emoji, Persian, Hebrew, a soft hyphen, private and unassigned characters."""
    odd = (
        "1\u00a0234\u202f567\u2009\u3000|a\u2028b\u2029c|\u200f\u05d0\u200e|\u0645\u06cc\u200c\u0631"
        "|\U0001f468\u200d\U0001f469|co\u00adop|\ufeff|\ue000|\U000378aa|\ufffe|e\u0301|\u200b|"
    )
    assert answer(f"print({ascii(odd)})") == odd


def test_lines_that_end_as_on_windows_end(answer: Callable[[str], str]) -> None:
    text = answer("import csv, sys; csv.writer(sys.stdout).writerows([['a', 'b'], [1, 2]])")
    assert text == "a,b\n1,2"


def test_bytes_that_are_no_text_are_marked(answer: Callable[[str], str]) -> None:
    assert answer(r"import os; os.write(1, b'a\xffb\xe4\xb8')") == "a�b�"


def test_of_all_of_latin_1_control_characters_are_escaped(answer: Callable[[str], str]) -> None:
    text = answer("print(''.join(map(chr, range(32, 256))))")
    assert set(text) == {chr(n) for n in (*range(32, 127), *range(160, 256))}
    assert text.count(r"\x") == 33


@pytest.mark.parametrize("code", ["print('\ud800')", "#" * 300_000], ids=["surrogate", "long"])
def test_what_is_no_program_is_the_callers_fault(tool: CodeTool, code: str) -> None:
    with pytest.raises(Fault) as caught:
        asyncio.run(tool.call(request(code)))
    assert caught.value.kind is FaultKind.BAD_INPUT


def test_without_a_sandbox_every_call_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    tool = CodeTool(LIMITS)
    assert tool.unavailable == "sandbox: there is no bwrap; apt install bubblewrap"
    with pytest.raises(Fault, match="apt install bubblewrap") as caught:
        asyncio.run(tool.call(request("print(1)")))
    assert caught.value.kind is FaultKind.UNAVAILABLE
    asyncio.run(tool.close())


def test_a_sandbox_that_fails_later_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sandbox_here: None
) -> None:
    tool = CodeTool(LIMITS)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Fault, match="^sandbox: ") as caught:
        asyncio.run(tool.call(request("print(1)")))
    assert caught.value.kind is FaultKind.UNAVAILABLE
