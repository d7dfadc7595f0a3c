"""The program inside the sandbox that scores answers with reasoning-gym's scorers.

The sandbox gets it as text, followed by `main(...)` with the cases, so it imports nothing of this
package. Each answer is scored in its own child process, a few at a time. A child has a deadline,
and limits on its CPU time and address space. Its system-call filter allows computing and reading
files only: it cannot sleep, start a process, create a file, or access its parent or siblings. Its
only descriptors are a pipe and /dev/null. A random nonce for each child precedes its score, so that
writing to every descriptor does not forge a score.

Output: lines of JSON, `[n, "starts"]`, then `[n, "ends", score, fault, fault of the reference,
seconds]`. If the run ends early, any case that started and did not end may be the cause.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import pickle
import resource
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from typing import Any

    Result = tuple[float | None, str | None]  # (score, fault), of which one is None
    Case = Generator[tuple[Callable[..., Any], str, Any], Result, None]

REPLY_BYTES = 4096
FAULT_CHARACTERS = 200
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
BYTES_PER_STEP = 8


class Filter(ctypes.Structure):
    """The C struct sock_fprog."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def main(data: str, limits: Mapping[str, Any]) -> None:
    """Scores all cases.

    data: base64 of a pickled list of cases, each a pickled (family, entry, answer, reference).
    """
    began = time.monotonic()
    import reasoning_gym

    imported_s = time.monotonic() - began
    if imported_s > limits["start_s"]:
        sys.exit(f"importing reasoning-gym took {imported_s:.0f} s")
    scorers: dict[str, Callable[..., Any]] = {}

    def scorer_of(family: str) -> Callable[..., Any]:
        if family not in scorers:
            scorers[family] = reasoning_gym.get_score_answer_fn(family)
        return scorers[family]

    cases = pickle.loads(base64.b64decode(data))  # made by the process that started the sandbox
    score_all([score_one(n, case, scorer_of) for n, case in enumerate(cases)], limits)


def score_all(cases: Sequence[Case], limits: Mapping[str, Any]) -> None:
    """Runs the cases in order, `at_once` of them at a time; none starts after `run_s`."""
    waiting, running = list(reversed(cases)), list[Child]()
    last_start = time.monotonic() + limits["run_s"]
    while True:
        late = time.monotonic() > last_start and len(waiting) < len(cases)
        while waiting and len(running) < limits["at_once"] and not late:
            running += next_child(waiting.pop(), None, limits)
        if not running:
            return  # the remaining cases go into another run
        for child in ended(running):
            running.remove(child)
            running += next_child(child.case, child.result(limits), limits)


def score_one(n: int, data: bytes, scorer_of: Callable[[str], Callable[..., Any]]) -> Case:
    """Yields the inputs of a child: for the answer, then, if that fails, for the reference."""
    family, entry, answer, reference = pickle.loads(data)
    began = time.monotonic()
    report(n, "starts")
    broken = None
    try:
        scorer = scorer_of(family)
    except Exception as error:
        score, fault = None, f"no scorer: {type(error).__name__}: {error}"[:FAULT_CHARACTERS]
        broken = fault
    else:
        score, fault = yield scorer, answer, entry
        if fault is not None:
            _, broken = yield scorer, reference, entry
    report(n, "ends", score, fault, broken, time.monotonic() - began)


def next_child(case: Case, result: Result | None, limits: Mapping[str, Any]) -> list[Child]:
    """Starts the next child of a case; returns it in a list, which is empty if the case ended."""
    try:
        return [Child(case, case.send(result), limits)]  # type: ignore[arg-type]
    except StopIteration:
        return []


def ended(children: Sequence[Child]) -> list[Child]:
    """Waits until a child has completed its reply, or is past its deadline with nothing to read."""
    while True:
        left_s = min(child.deadline for child in children) - time.monotonic()
        ready = select.select([child.pipe for child in children], [], [], max(0.0, left_s))[0]
        for child in children:
            if child.pipe in ready:
                child.read()
        now = time.monotonic()
        late = [child for child in children if child.deadline <= now and child.pipe not in ready]
        if found := [child for child in children if child.complete or child in late]:
            return found


def report(*fields: object) -> None:
    os.write(1, json.dumps(fields).encode() + b"\n")


class Child:
    """A process that scores one text for a case."""

    def __init__(
        self, case: Case, task: tuple[Callable[..., Any], str, Any], limits: Mapping[str, Any]
    ):
        self.case, self.reply, self.complete = case, b"", False
        self._nonce = os.urandom(16).hex()
        self.pipe, write_end = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            try:
                confine(write_end, limits)
                os.write(0, (self._nonce + json.dumps(attempt(*task))).encode())
            finally:
                os._exit(0)
        os.close(write_end)
        self.deadline = time.monotonic() + limits["answer_s"]

    def read(self) -> None:
        """Reads from the pipe, which must be ready."""
        chunk = os.read(self.pipe, REPLY_BYTES)
        self.reply += chunk
        self.complete = not chunk or len(self.reply) > REPLY_BYTES

    def result(self, limits: Mapping[str, Any]) -> Result:
        """Ends the process and parses its untrusted reply: only a number or a text is valid."""
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self.pipe)
        if not self.complete:
            return None, f"no score within {limits['answer_s']:g} s"
        if not self.reply.startswith(self._nonce.encode()):
            return None, "the scorer's process ended"
        try:
            match json.loads(self.reply[len(self._nonce) :]):
                case [int() | float() as score, None] if 0.0 <= score <= 1.0:
                    return float(score), None
                case [None, str(fault)]:
                    return None, ascii(fault)[1:-1][:FAULT_CHARACTERS]
        except (ValueError, RecursionError):
            pass
        return None, "no score between 0 and 1"


def confine(pipe: int, limits: Mapping[str, Any]) -> None:
    """Makes `pipe` descriptor 0, 1 and 2 /dev/null, closes all others, and sets limits."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor, source in ((0, pipe), (1, null), (2, null)):
        os.dup2(source, descriptor)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for name, value in (
        ("RLIMIT_AS", limits["answer_memory_mib"] * 2**20),
        ("RLIMIT_CPU", limits["answer_cpu_s"]),
    ):
        resource.setrlimit(getattr(resource, name), (value, value))
    steps = limits["system_calls"]
    calls = Filter(len(steps) // BYTES_PER_STEP, steps)
    if ctypes.CDLL(None).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(calls)) != 0:
        raise OSError("no filter on system calls")


def attempt(scorer: Callable[..., Any], answer: str, entry: Any) -> Result:
    try:
        given = scorer(answer, entry)
    except Exception as error:
        return None, f"the scorer raised {type(error).__name__}"
    try:
        score = None if isinstance(given, (str, bytes)) else float(given)
    except Exception:
        score = None
    if score is None or not 0.0 <= score <= 1.0:
        return None, "no score between 0 and 1"
    return score, None
