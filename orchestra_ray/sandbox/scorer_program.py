"""The program inside the sandbox that scores answers with reasoning-gym's own scorers.

It is handed to the sandbox as text, with `main(...)` and its cases after it, so it imports nothing
of this package. Each answer is scored in a child of its own, a few children at a time. A child has
a deadline, and limits on its processor time and its address space. Its filter on system calls lets
it compute and read files, and nothing else: it cannot sleep, start a process, create a file, or
reach its parent and its siblings. Its only descriptors are a pipe and /dev/null. A word that is new
for each child stands before its score, so that writing to every descriptor scores nothing.

What it prints are lines of JSON: `[n, "starts"]`, then `[n, "ends", score, fault, fault of the
reference, seconds]`. If the run ends early, the cases that started and did not end may have ended
it.
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

    Result = tuple[float | None, str | None]  # the score, and why there is none: one is None
    Case = Generator[tuple[Callable[..., Any], str, Any], Result, None]

REPLY_BYTES = 4096
FAULT_CHARACTERS = 200
PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
BYTES_PER_STEP = 8


class Filter(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def main(data: str, limits: Mapping[str, Any]) -> None:
    """`data`: a list of cases (family, entry, answer, reference), each pickled, in base 64."""
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
    """Runs the cases in their order, `at_once` of them at a time; none starts after `run_s`."""
    waiting, running = list(reversed(cases)), list[Child]()
    last_start = time.monotonic() + limits["run_s"]
    while True:
        late = time.monotonic() > last_start and len(waiting) < len(cases)
        while waiting and len(running) < limits["at_once"] and not late:
            running += next_child(waiting.pop(), None, limits)
        if not running:
            return  # what still waits goes into another run
        for child in ended(running):
            running.remove(child)
            running += next_child(child.case, child.result(limits), limits)


def score_one(n: int, data: bytes, scorer_of: Callable[[str], Callable[..., Any]]) -> Case:
    """Yields what a child is to score, the answer and then perhaps the reference."""
    family, entry, answer, reference = pickle.loads(data)
    began = time.monotonic()
    tell(n, "starts")
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
    tell(n, "ends", score, fault, broken, time.monotonic() - began)


def next_child(case: Case, result: Result | None, limits: Mapping[str, Any]) -> list[Child]:
    """The child that the case needs next; none if the case has ended."""
    try:
        return [Child(case, case.send(result), limits)]  # type: ignore[arg-type]
    except StopIteration:
        return []


def ended(children: Sequence[Child]) -> list[Child]:
    """Waits until at least one child has said all, or has no time left and nothing to be read."""
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


def tell(*fields: object) -> None:
    os.write(1, json.dumps(fields).encode() + b"\n")


class Child:
    """A process that scores one text for a case."""

    def __init__(
        self, case: Case, task: tuple[Callable[..., Any], str, Any], limits: Mapping[str, Any]
    ):
        self.case, self.reply, self.complete = case, b"", False
        self._word = os.urandom(16).hex()
        self.pipe, write_end = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            try:
                confine(write_end, limits)
                os.write(0, (self._word + json.dumps(attempt(*task))).encode())
            finally:
                os._exit(0)
        os.close(write_end)
        self.deadline = time.monotonic() + limits["answer_s"]

    def read(self) -> None:
        """Call only if the pipe is ready."""
        chunk = os.read(self.pipe, REPLY_BYTES)
        self.reply += chunk
        self.complete = not chunk or len(self.reply) > REPLY_BYTES

    def result(self, limits: Mapping[str, Any]) -> Result:
        """Ends the process. Believes nothing of its reply but a number or a text."""
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self.pipe)
        if not self.complete:
            return None, f"no score within {limits['answer_s']:g} s"
        if not self.reply.startswith(self._word.encode()):
            return None, "the scorer's process ended"
        try:
            match json.loads(self.reply[len(self._word) :]):
                case [int() | float() as score, None] if 0.0 <= score <= 1.0:
                    return float(score), None
                case [None, str(fault)]:
                    return None, ascii(fault)[1:-1][:FAULT_CHARACTERS]
        except (ValueError, RecursionError):
            pass
        return None, "no score between 0 and 1"


def confine(pipe: int, limits: Mapping[str, Any]) -> None:
    """Leaves `pipe` as descriptor 0, nothing behind 1 and 2, and no others."""
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
