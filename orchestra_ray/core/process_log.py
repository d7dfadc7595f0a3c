"""The log of a process: the files behind its standard error and output, and their last lines.

Ray redirects an actor's output to plain files, which the actor's child processes inherit and which
outlive them, so they show why a process died. A process reports its files while it runs
(`own_log`); they are read after its death (`tail`).

Reading is bounded in bytes, lines and characters, and never raises.
"""

import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from stat import S_ISREG

MAX_BYTES = 32_768
MAX_LINES = 40
MAX_CHARACTERS = 500  # of a line
_STANDARD_STREAMS = (2, 1)  # errors first

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ERRORS = (
    # "ValueError: text", also behind the prefix of a logger
    re.compile(r"(?:^|[\s\]):|])((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Failed): .*)$"),
    # an exception without a text
    re.compile(r"(?:^|\] )((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception))$"),
    re.compile(r"(Fatal Python error: .*)$"),
    re.compile(r"(\*\*\* SIG[A-Z]+ .*)$"),
    re.compile(r"(terminate called .*|what\(\): .*)$"),
    re.compile(r"((?:\S*: .*)?Assertion [`'].*[`'] failed.*)$"),
    re.compile(r"^((?:free\(\)|malloc\(\)|double free|corrupted ).*)$"),
    re.compile(r"((?:CUDA|HIP|NCCL|CUBLAS|cuBLAS|cuDNN) error: .*)$"),
    re.compile(r"(\S+: (?:error while loading shared libraries|symbol lookup error): .*)$"),
    re.compile(r"((?:thread '.*' (?:\(\d+\) )?)?panicked at .*)$"),  # Rust
    re.compile(r"^((?:panic|fatal error): .*)$"),  # Go
    re.compile(r"(Segmentation fault.*|Out of memory: .*)$"),
    # a shell's message about a process that a signal ended
    re.compile(
        r"(?:^|: +|: line \d+: +\d+ |\d )((?:Bus error|Illegal instruction|Killed|Aborted"
        r"|Floating point exception)(?: \(core dumped\))?)(?:\s{2,}.*)?$"
    ),
)
_TRACEBACK = "Traceback (most recent call last):"
_RAISED = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:: .*)?$")
# The level of a log line, near its start; Ray and glog write a letter.
_HARMLESS = re.compile(
    r"^.{0,60}?(?:(?<![\w.])(?:WARNING|WARN|INFO|DEBUG)(?![\w.])|\d [IWD] \d)|^[IWD]\d{4} \d"
)
# Errors that only refer to an earlier error.
_CONSEQUENCES = re.compile(r"EngineDeadError|(?:root cause|stack ?trace|error)s? above", re.I)
_MARKERS = re.compile(r":(?:job_id|actor_name|task_name):")  # Ray's own, at the start of a file
_CLASS = re.compile(r"[\w.]*\w")


@dataclass(frozen=True, slots=True)
class LogTail:
    """The end of a log. `path` includes the host if the log is on another machine.

    lines: empty if they cannot be read from here, or are private. reason: the last error among
    them, or "".
    """

    path: str
    lines: tuple[str, ...] = ()
    reason: str = ""

    def redacted(self) -> "LogTail":
        """Returns the path and the class of the error only, for private tasks."""
        found = _CLASS.match(self.reason)
        return LogTail(self.path, (), found.group() if found else "")


@dataclass(frozen=True, slots=True)
class ProcessLog:
    """The files that a process writes to, standard error first; possibly none."""

    host: str
    pid: int
    paths: tuple[str, ...]

    def tail(self) -> LogTail | None:
        """Returns the end of the file that has an error, else of the first that is not empty."""
        if not self.paths:
            return None
        here = self.host == socket.gethostname()
        if not here:
            return LogTail(f"{self.host}:{self.paths[0]} (process {self.pid})")
        tails = [LogTail(path, lines, reason_in(lines)) for path, lines in _read(self.paths)]
        useful = [one for one in tails if one.reason] or [one for one in tails if one.lines]
        return next(iter(useful), LogTail(self.paths[0]))


def own_log() -> ProcessLog:
    """Returns the log of this process, without streams that are no plain file."""
    paths = dict.fromkeys(filter(None, map(_file_behind, _STANDARD_STREAMS)))
    return ProcessLog(socket.gethostname(), os.getpid(), tuple(paths))


def path_of_own_log() -> LogTail | None:
    """Returns the path of the log alone, for a failure whose traceback this process logs."""
    paths = own_log().paths
    return LogTail(paths[0]) if paths else None


def last_lines(path: str | Path) -> tuple[str, ...]:
    """Returns the last lines of a file, without empty ones; none if it cannot be read."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_BYTES))
            return lines_of(file.read(MAX_BYTES))
    except OSError:
        return ()


def lines_of(output: bytes) -> tuple[str, ...]:
    """Returns the last lines of a process's output, as text without terminal codes."""
    text = _TERMINAL_CODES.sub("", output[-MAX_BYTES:].decode(errors="replace"))
    lines = [line.rstrip()[:MAX_CHARACTERS] for line in text.splitlines()]
    return tuple([line for line in lines if line and not _MARKERS.match(line)][-MAX_LINES:])


def reason_in(lines: Sequence[str]) -> str:
    """Returns the last error in the lines, or "".

    Errors that only refer to another do not count. Lines that the log marks as warnings or below
    count only if there is no other error.
    """
    harmless = ""
    for at in reversed(range(len(lines))):
        reason = "" if _CONSEQUENCES.search(lines[at]) else _error_at(lines, at)
        if reason and not _is_harmless(lines, at):
            return reason
        harmless = harmless or reason
    return harmless


def _error_at(lines: Sequence[str], at: int) -> str:
    start, column = _traceback_of(lines, at)
    raised = _RAISED.match(lines[at][column:]) if start < at else None
    if raised is not None:
        return raised.group()
    for pattern in _ERRORS:
        found = pattern.search(lines[at])
        if found is not None:
            goes_on = "panicked at" in found[1] and found[1].endswith(":") and at + 1 < len(lines)
            return f"{found[1]} {lines[at + 1].strip()}" if goes_on else found[1]
    return ""


def _is_harmless(lines: Sequence[str], at: int) -> bool:
    start, _ = _traceback_of(lines, at)
    return any(_HARMLESS.search(lines[i]) for i in {at, start, max(0, start - (start < at))})


def _traceback_of(lines: Sequence[str], at: int) -> tuple[int, int]:
    """Returns the first line and column of the traceback that ends at `at`, else (at, 0)."""
    for start in reversed(range(at)):
        column = lines[start].find(_TRACEBACK)
        if column >= 0:
            frames = lines[start + 1 : at]
            whole = frames and all(frame[column : column + 1] == " " for frame in frames)
            return (start, column) if whole else (at, 0)
    return at, 0


def with_log(message: str, log: LogTail | None) -> str:
    """Returns one line: the message, the last error of the log, and the log's path.

    Parts that the message already contains are not repeated.
    """
    if log is None:
        return message
    parts = [message]
    if log.reason and log.reason not in message:
        parts.append(f"last error in its log: {log.reason}")
    if log.path not in message:
        parts.append(f"log: {log.path}")
    return "; ".join(parts)


def without_reason(log: LogTail | None) -> LogTail | None:
    """Returns the log without its reason, for a failure whose message has the reason."""
    return None if log is None else replace(log, reason="")


def _read(paths: Sequence[str]) -> list[tuple[str, tuple[str, ...]]]:
    return [(path, last_lines(path)) for path in paths]


def _file_behind(descriptor: int) -> str | None:
    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        return path if S_ISREG(os.stat(path).st_mode) else None
    except OSError:
        return None
