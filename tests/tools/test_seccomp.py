"""The filter is run here as the kernel would, for both machines; on this one the attacks try it."""

import errno
import socket
import struct

import pytest

from orchestra_ray.tools import seccomp

ALLOWED, KILLED = 0x7FFF0000, 0x80000000
# read, execve, fork by clone: on x86_64, on aarch64
CALLS = {"x86_64": (0, 59, 56), "aarch64": (63, 221, 220)}
SOCKET = {"x86_64": 41, "aarch64": 198}


def refusal(error: int) -> int:
    return 0x00050000 | error


def judge(machine: str, number: int, first: int = 0, architecture: int | None = None) -> int:
    """What the filter answers. It knows the six operations that the filter is made of."""
    steps = list(struct.iter_unpack("=HBBI", seccomp.program(machine)))
    architecture = architecture or seccomp.ARCHITECTURES[machine]
    data = struct.pack("=IIQ6Q", number, architecture, 0, first, 0, 0, 0, 0, 0)
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
