"""Interprets the filter as the kernel would, for both machines; the attacks run it for real."""

import errno
import os
import socket
import struct
from collections.abc import Sequence

import pytest

from orchestra_ray.sandbox import seccomp

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
# read, execve, fork by clone: on x86_64, on aarch64
CALLS = {"x86_64": (0, 59, 56), "aarch64": (63, 221, 220)}
SOCKET = {"x86_64": 41, "aarch64": 198}


def refusal(error: int) -> int:
    return 0x00050000 | error


def judge(machine: str, number: int, first: int = 0, architecture: int | None = None) -> int:
    return answer(seccomp.program(machine), machine, number, (first,), architecture)


def computing(machine: str, number: int, *arguments: int) -> int:
    return answer(seccomp.computing(machine), machine, number, arguments)


def answer(
    program: bytes,
    machine: str,
    number: int,
    arguments: Sequence[int],
    architecture: int | None = None,
) -> int:
    """What the filter answers. It knows the six operations that the filter is made of."""
    steps = list(struct.iter_unpack("=HBBI", program))
    architecture = architecture or seccomp.ARCHITECTURES[machine]
    six = [*arguments, *[0] * 6][:6]
    data = struct.pack("=IIQ6Q", number, architecture, 0, *six)
    at, loaded = 0, 0
    while True:
        operation, yes, no, value = steps[at]
        match operation:
            case 0x20:
                loaded = struct.unpack_from("=I", data, value)[0]
                at += 1
            case 0x06:
                return value
            case 0x15 | 0x35 | 0x45:
                holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}
                at += 1 + (yes if holds[operation] else no)
            case _:
                raise AssertionError(f"operation {operation:#x}")


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_a_program_may_do_what_programs_do(machine: str) -> None:
    sigchld = 17
    assert {judge(machine, number, sigchld) for number in CALLS[machine]} == {ALLOWED}


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_only_unix_sockets_are_made(machine: str) -> None:
    assert judge(machine, SOCKET[machine], socket.AF_UNIX) == ALLOWED
    families = [family for family in range(50) if family != socket.AF_UNIX]
    answers = {judge(machine, SOCKET[machine], family) for family in families}
    assert answers == {refusal(errno.EACCES)}


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
@pytest.mark.parametrize("bit", [17, 25, 26, 27, 28, 29, 30])
def test_no_namespace_is_made(machine: str, bit: int) -> None:
    clone = CALLS[machine][2]
    assert judge(machine, clone, 1 << bit) == refusal(errno.EPERM)
    assert judge(machine, 435) == refusal(errno.ENOSYS)


@pytest.mark.parametrize(
    ("machine", "number"), [("x86_64", 101), ("aarch64", 117), ("x86_64", 319), ("aarch64", 279)]
)
def test_tracing_and_uncounted_memory_are_refused(machine: str, number: int) -> None:
    assert judge(machine, number) == refusal(errno.EPERM)


def test_the_calls_of_another_machine_end_the_process() -> None:
    i386, x32 = 0x40000003, 0x40000000
    assert judge("x86_64", 20, architecture=i386) == KILLED
    assert judge("x86_64", x32 | 39) == KILLED
    assert judge("aarch64", 20, architecture=seccomp.ARCHITECTURES["x86_64"]) == KILLED


# read, write, mmap, exit_group: on x86_64, on aarch64
ALL_IT_NEEDS = {"x86_64": (0, 1, 9, 231), "aarch64": (63, 64, 222, 94)}
# kill, tgkill, prlimit64, fcntl, clock_nanosleep, ppoll, clone, socket, mkdirat, execve, dup,
# setitimer, futex
ALL_ELSE = {
    "x86_64": (62, 234, 302, 72, 230, 271, 56, 41, 258, 59, 32, 38, 202),
    "aarch64": (129, 131, 261, 25, 115, 73, 220, 198, 34, 221, 23, 103, 98),
}
OPENAT = {"x86_64": 257, "aarch64": 56}


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_a_process_that_computes_may_do_nothing_else(machine: str) -> None:
    assert {computing(machine, number) for number in ALL_IT_NEEDS[machine]} == {ALLOWED}
    assert {computing(machine, number) for number in ALL_ELSE[machine]} == {refusal(errno.EPERM)}
    allowed = [number for number in range(600) if computing(machine, number) == ALLOWED]
    assert len(allowed) == {"x86_64": 45, "aarch64": 39}[machine]


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
@pytest.mark.parametrize(
    "flags", [os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_WRONLY | os.O_CREAT]
)
def test_a_process_that_computes_opens_files_to_read_only(machine: str, flags: int) -> None:
    assert computing(machine, OPENAT[machine], 0, 0, os.O_RDONLY | os.O_CLOEXEC) == ALLOWED
    assert computing(machine, OPENAT[machine], 0, 0, flags) == refusal(errno.EPERM)
    if machine == "x86_64":
        assert computing(machine, 2, 0, flags) == refusal(errno.EPERM)


@pytest.mark.parametrize("machine", seccomp.ARCHITECTURES)
def test_a_process_that_computes_ends_at_the_calls_of_another_machine(machine: str) -> None:
    program, other = seccomp.computing(machine), {"x86_64": 0x40000003, "aarch64": 0xC000003E}
    assert answer(program, machine, 20, (), other[machine]) == KILLED
