"""The system-call filter of the code sandbox, as the classic BPF program that bubblewrap loads.

A list of refusals, not of permissions: namespaces, limits and lost capabilities are the walls, and
the filter closes what these leave open. Sockets of other families than AF_UNIX (AF_VSOCK reaches
the hypervisor through any network namespace); memory that no process limit counts (memfd, System V
and POSIX queues, io_uring); the kernel's keyrings, which a child inherits; new namespaces and the
tracing of others, from where most ways out of a sandbox have started. A refused call gets an
errno, a call of a foreign ABI ends the process. Written for x86_64 and aarch64, Linux's numbers.
"""

import errno
import socket
import struct
from collections.abc import Mapping

ARCHITECTURES: Mapping[str, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*

# name: the number on x86_64, on aarch64; None: there is no such call
_REFUSED: Mapping[str, tuple[int | None, int | None]] = {
    "add_key": (248, 217),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "fanotify_init": (300, 262),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "inotify_init": (253, None),
    "inotify_init1": (294, 26),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "keyctl": (250, 219),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "mq_open": (240, 180),
    "msgget": (68, 186),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "request_key": (249, 218),
    "semget": (64, 190),
    "setns": (308, 268),
    "shmget": (29, 194),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
}
_SIGNALS: Mapping[str, tuple[int, int]] = {
    "kill": (62, 129),
    "pidfd_send_signal": (424, 424),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "tgkill": (234, 131),
    "tkill": (200, 130),
}
_SOCKET, _SOCKETPAIR, _CLONE = (41, 198), (53, 199), (56, 220)
_CLONE3 = 435
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_X32 = 0x40000000  # x86_64 with 32-bit pointers: the same calls under other numbers

# struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]
_NR, _ARCH, _FIRST_ARGUMENT = 0, 4, 16
_LOAD, _RETURN = 0x20, 0x06
_EQUAL, _AT_LEAST, _ANY_BIT = 0x15, 0x35, 0x45
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000


def program(machine: str) -> bytes:
    """The filter for `machine`, one of ARCHITECTURES."""
    column = list(ARCHITECTURES).index(machine)
    steps = [
        *_load_number(machine),
        *_refuse(_CLONE3, errno.ENOSYS),  # its flags lie in memory; the C library falls back
    ]
    for numbers in _REFUSED.values():
        if (number := numbers[column]) is not None:
            steps += _refuse(number, errno.EPERM)
    for numbers in (_SOCKET, _SOCKETPAIR):
        steps += _judge(numbers[column], _EQUAL, socket.AF_UNIX, _ALLOW, _ERRNO | errno.EACCES)
    steps += _judge(_CLONE[column], _ANY_BIT, _NEW_NAMESPACES, _ERRNO | errno.EPERM, _ALLOW)
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def without_signals(machine: str) -> bytes:
    """A filter to be added inside the sandbox: for a process that may send no signal."""
    column = list(ARCHITECTURES).index(machine)
    steps = _load_number(machine)
    for numbers in _SIGNALS.values():
        steps += _refuse(numbers[column], errno.EPERM)
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def _load_number(machine: str) -> list[bytes]:
    """The number of the call; a call of a foreign ABI ends the process."""
    return [
        _step(_LOAD, _ARCH),
        _step(_EQUAL, ARCHITECTURES[machine], yes=1),
        _step(_RETURN, _KILL_PROCESS),
        _step(_LOAD, _NR),
        _step(_AT_LEAST, _X32, no=1),
        _step(_RETURN, _KILL_PROCESS),
    ]


def _refuse(number: int, error: int) -> list[bytes]:
    return [_step(_EQUAL, number, no=1), _step(_RETURN, _ERRNO | error)]


def _judge(number: int, test: int, value: int, holds: int, fails: int) -> list[bytes]:
    """Decides on call `number` by its first argument."""
    return [
        _step(_EQUAL, number, no=4),
        _step(_LOAD, _FIRST_ARGUMENT),
        _step(test, value, no=1),
        _step(_RETURN, holds),
        _step(_RETURN, fails),
    ]


def _step(operation: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """One instruction; `yes` and `no` are how many are skipped where a comparison holds or not."""
    return struct.pack("=HBBI", operation, yes, no, value)
