"""The program inside the sandbox that scores answers with reasoning-gym's own scorers.

It is handed to the sandbox as text, with `main(...)` and its cases after it, so it imports nothing
of this package. Answers are scored one after another, each in a child of its own: with a deadline,
without a way to start processes, to write files or to send signals, and with no descriptor but a
pipe. A word that is new for each child stands before its score, so that writing to every
descriptor scores nothing.

What it prints are lines of JSON: `[n, "starts"]`, then `[n, "ends", score, fault, fault of the
reference]`. A child has no sibling, and can at worst end this process and with it the run. The
last line then tells which answer did it; later ones have not started.
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
    from collections.abc import Callable, Mapping
    from typing import Any

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

    started = time.monotonic()
    if started - began > limits["start_s"]:
        sys.exit(f"importing reasoning-gym took {started - began:.0f} s")
    scorers: dict[str, Callable[..., Any]] = {}
    cases = pickle.loads(base64.b64decode(data))  # made by the process that started the sandbox
    for n, case in enumerate(cases):
        if n and time.monotonic() - started > limits["run_s"]:
            return  # the rest goes into another run
        family, entry, answer, reference = pickle.loads(case)
        tell(n, "starts")
        try:
            if family not in scorers:
                scorers[family] = reasoning_gym.get_score_answer_fn(family)
        except Exception as error:
            why = f"no scorer: {type(error).__name__}: {error}"[:FAULT_CHARACTERS]
            tell(n, "ends", None, why, why)
            continue
        score, fault = in_child(scorers[family], answer, entry, limits)
        broken = None
        if fault is not None:
            _, broken = in_child(scorers[family], reference, entry, limits)
        tell(n, "ends", score, fault, broken)


def tell(*fields: object) -> None:
    os.write(1, json.dumps(fields).encode() + b"\n")


def in_child(
    scorer: Callable[..., Any], answer: str, entry: Any, limits: Mapping[str, Any]
) -> tuple[float | None, str | None]:
    """The score, and why there is none: one of the two is None."""
    read_end, write_end = os.pipe()
    word = os.urandom(16).hex()
    child = os.fork()
    if child == 0:
        try:
            confine(write_end, limits)
            os.write(0, (word + json.dumps(attempt(scorer, answer, entry))).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    reply, in_time = read_to_end(read_end, time.monotonic() + limits["answer_s"])
    os.close(read_end)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if not in_time:
        return None, f"no score within {limits['answer_s']:g} s"
    if not reply.startswith(word.encode()):
        return None, "the scorer's process ended"
    try:
        score, fault = json.loads(reply[len(word) :])
    except ValueError:
        return None, "no score between 0 and 1"
    return (score, None) if fault is None else (None, fault)


def read_to_end(pipe: int, deadline: float) -> tuple[bytes, bool]:
    """What was written, and whether all of it came before the deadline."""
    reply = b""
    while len(reply) <= REPLY_BYTES:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([pipe], [], [], left_s)[0]:
            return b"", False
        chunk = os.read(pipe, REPLY_BYTES)
        if not chunk:
            return reply, True
        reply += chunk
    return b"", True


def confine(pipe: int, limits: Mapping[str, Any]) -> None:
    """Leaves `pipe` as descriptor 0, nothing behind 1 and 2, and no others."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor, source in ((0, pipe), (1, null), (2, null)):
        os.dup2(source, descriptor)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    memory = limits["answer_memory_mib"] * 2**20
    for name, value in (
        ("RLIMIT_AS", memory),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_NPROC", 0),
        ("RLIMIT_CPU", limits["answer_cpu_s"]),
    ):
        resource.setrlimit(getattr(resource, name), (value, value))
    steps = limits["system_calls"]
    calls = Filter(len(steps) // BYTES_PER_STEP, steps)
    if ctypes.CDLL(None).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(calls)) != 0:
        raise OSError("no filter on system calls")


def attempt(scorer: Callable[..., Any], answer: str, entry: Any) -> tuple[float | None, str | None]:
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
