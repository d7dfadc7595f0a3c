"""The last lines of a log: bounded, without terminal codes, with the likely reason."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.process_log import (
    MAX_BYTES,
    MAX_CHARACTERS,
    MAX_LINES,
    LogTail,
    ProcessLog,
    last_lines,
    lines_of,
    own_log,
    reason_in,
    with_log,
)

ENGINE = """\
(EngineCore pid=7) ERROR 11-29 08:31:11 [core.py:123] EngineCore failed to start.
(EngineCore pid=7) ERROR 11-29 08:31:11 [core.py:123] Traceback (most recent call last):
(EngineCore pid=7) ERROR 11-29 08:31:11 [core.py:123] ValueError: Head size 20 is not supported.
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace above.
"""
PREFIX = "(EngineCore pid=7) ERROR 11-29 08:31:11 [core.py:123] "


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (ENGINE, "ValueError: Head size 20 is not supported."),
        ("torch.OutOfMemoryError: CUDA out of memory.\nbye", "torch.OutOfMemoryError: CUDA out of"),
        ("Traceback\n  File x\nMemoryError\n", "MemoryError"),
        ("Fatal Python error: Segmentation fault\n\nCurrent thread\n", "Fatal Python error: Segm"),
        ("[2026 E 1] *** SIGABRT received at time=1 ***", "*** SIGABRT received"),
        ("terminate called after throwing\n  what():  bad_alloc", "what():  bad_alloc"),
        ("a.c:12: f: Assertion `x' failed.\n", "a.c:12: f: Assertion `x' failed."),
        ("KeyError: 'a'\nlater: RuntimeError: b\n", "RuntimeError: b"),
        (
            "Indexing.cu:1: op: [0,0,0] Assertion `a < b` failed.\nbye",
            "Indexing.cu:1: op: [0,0,0] As",
        ),
        ("Assertion `a < b` failed.", "Assertion `a < b` failed."),
        ("CUDA error: an illegal memory access was encountered\nbye", "CUDA error: an illegal"),
        ("Traceback (most recent call last):\n  File x\na.b.Broken: text\nbye", "a.b.Broken: text"),
        ("Traceback (most recent call last):\n  File x\n    f()\nKeyboardInterrupt", "KeyboardI"),
        (f"{PREFIX}Traceback (most recent call last):\n{PREFIX}  File\n{PREFIX}Gone: x", "Gone: x"),
        ("Note: text that no traceback precedes", ""),
        ("Bus error (core dumped)\n", "Bus error (core dumped)"),
        ("sh: line 1:   123 Illegal instruction     (core dumped) python x", "Illegal instruction"),
        ("Killed\n", "Killed"),
        ("run.sh: line 3: 4711 Killed                  python train.py", "Killed"),
        ("Killed the timer, all is well", ""),
        ("srv: error while loading shared libraries: libx.so: cannot open", "srv: error while"),
        (
            "thread 'main' panicked at src/a.rs:1:2:\nindex out of bounds\nnote: run with",
            "thread 'main' panicked at src/a.rs:1:2: index out of bounds",
        ),
        ("retrying after ConnectionError: refused\nwell\nBus error\n", "Bus error"),
        ("ValueError: the cause\nWARNING 11-29 ConnectionError: refused", "ValueError: the cause"),
        ("ValueError: the cause\n[2026-11-29 08:31:11,1 W 7 7] OSError: no", "ValueError: the"),
        (
            "Bus error\nWARNING: no\nTraceback (most recent call last):\n  File x\nOSError: b",
            "Bus error",
        ),
        ("INFO 11-29 OSError: all that there is", "OSError: all that there is"),
        ("all is well\nINFO no Errors: none\n", ""),
        ("", ""),
    ],
)
def test_the_reason_is_the_last_error_that_does_not_point_at_another(
    written: str, reason: str
) -> None:
    found = reason_in(lines_of(written.encode()))
    assert found.startswith(reason) and bool(found) == bool(reason)


@given(st.binary(max_size=3 * MAX_BYTES) | st.text().map(str.encode))
def test_whatever_was_written_the_lines_are_few_and_short(written: bytes) -> None:
    lines = lines_of(written)
    assert len(lines) <= MAX_LINES and all(len(line) <= MAX_CHARACTERS for line in lines)
    assert isinstance(reason_in(lines), str)
    log = LogTail("p", lines, reason_in(lines))
    assert log.redacted().lines == () and " " not in log.redacted().reason


@given(st.lists(st.from_regex(r"[a-z]{1,300}", fullmatch=True), max_size=300))
def test_the_last_lines_of_a_file_are_those_of_its_text(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    path = tmp_path_factory.mktemp("log") / "worker.err"
    path.write_text("".join(f"\x1b[31m{line}\x1b[0m\n\n" for line in lines))
    expected = lines[-MAX_LINES:]
    found = list(last_lines(path))
    assert found[-len(expected) // 2 :] == expected[-len(expected) // 2 :]
    assert len(found) <= len(expected)


def test_a_process_names_its_files_and_its_children_write_there(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys; from orchestra_ray.core.process_log import own_log;"
        "subprocess.run([sys.executable, '-c', 'raise ValueError(1)']);"
        "print(own_log().paths[0], flush=True)"
    )
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        subprocess.run([sys.executable, "-c", script], stdout=out, stderr=err, check=True)
    path = (tmp_path / "out").read_text().strip()
    assert path == str(tmp_path / "err")
    tail = replace(own_log(), paths=(path, str(tmp_path / "out"))).tail()
    assert tail is not None and tail.path == path
    assert tail.reason == "ValueError: 1" and "Traceback" in tail.lines[0]


def test_what_is_no_plain_file_is_left_out() -> None:
    script = (
        "from orchestra_ray.core.process_log import own_log, path_of_own_log;"
        "print(own_log().paths, own_log().tail(), path_of_own_log())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "() None None\n"


def test_the_file_that_has_the_error_is_the_one_that_is_named(tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    out.write_text("ERROR [core.py:1] ValueError: no such head\n")
    err.write_text("a warning\n")
    log = replace(own_log(), paths=(str(err), str(out)))
    assert log.tail() == LogTail(str(out), (out.read_text().strip(),), "ValueError: no such head")
    out.unlink()
    assert log.tail() == LogTail(str(err), ("a warning",), "")
    err.unlink()
    assert log.tail() == LogTail(str(err))


def test_of_another_host_the_line_names_host_and_path() -> None:
    log = ProcessLog("elsewhere", 7, ("/tmp/x.err",))
    line = with_log("it died", log.tail())
    assert line == "it died; log: elsewhere:/tmp/x.err (process 7)"


def test_a_line_repeats_neither_the_reason_nor_the_path() -> None:
    log = LogTail("/x.err", ("KeyError: 1",), "KeyError: 1")
    once = with_log("it died", log)
    assert once == "it died; last error in its log: KeyError: 1; log: /x.err"
    assert with_log(once, log) == once and with_log("it died", None) == "it died"
