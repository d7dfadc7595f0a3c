"""The system-call filter of the code sandbox, as the classic BPF program that bubblewrap loads.

`program` is a deny list. Isolation comes from namespaces, limits and dropped capabilities, and the
filter covers the rest:
- sockets of families other than AF_UNIX (AF_VSOCK reaches the hypervisor from any network
  namespace);
- memory that no process limit counts (memfd, System V and POSIX queues, io_uring);
- the kernel's keyrings, which a child inherits;
- new namespaces and tracing, which most known sandbox escapes use.
A denied call fails with an errno; a call of a foreign ABI ends the process. Supported: Linux on
x86_64 and aarch64.

`computing` is a short allow list for a process that only computes. It may read files and write to
open descriptors; it cannot start or signal a process, create or change a file, sleep or wait.
"""

import errno
import os
import socket
import struct
from collections.abc import Mapping

ARCHITECTURES: Mapping[str, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_*

# name: (number on x86_64, on aarch64); None if the call does not exist
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
_COMPUTING: Mapping[str, tuple[int, int | None]] = {
    "access": (21, None),
    "brk": (12, 214),
    "clock_getres": (229, 114),
    "clock_gettime": (228, 113),
    "close": (3, 57),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "faccessat": (269, 48),
    "fstat": (5, 80),
    "getcwd": (79, 17),
    "getdents64": (217, 61),
    "getegid": (108, 177),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getpid": (39, 172),
    "getrandom": (318, 278),
    "getrusage": (98, 165),
    "gettid": (186, 178),
    "gettimeofday": (96, 169),
    "getuid": (102, 174),
    "lseek": (8, 62),
    "lstat": (6, None),
    "madvise": (28, 233),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "munmap": (11, 215),
    "newfstatat": (262, 79),
    "pread64": (17, 67),
    "read": (0, 63),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_getaffinity": (204, 123),
    "sigaltstack": (131, 132),
    "stat": (4, None),
    "statx": (332, 291),
    "sysinfo": (99, 179),
    "time": (201, None),
    "uname": (63, 160),
    "write": (1, 64),
}
_OPEN, _OPENAT = (2, None), (257, 56)
_WRITING = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC  # the same bits on both machines
_SOCKET, _SOCKETPAIR, _CLONE = (41, 198), (53, 199), (56, 220)
_CLONE3 = 435
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_X32 = 0x40000000  # x86_64 with 32-bit pointers: the same calls with other numbers

# struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]
_NR, _ARCH, _FIRST_ARGUMENT = 0, 4, 16
_LOAD, _RETURN = 0x20, 0x06
_EQUAL, _AT_LEAST, _ANY_BIT = 0x15, 0x35, 0x45
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000


def program(machine: str) -> bytes:
    """Returns the sandbox's filter for `machine`, one of ARCHITECTURES."""
    column = list(ARCHITECTURES).index(machine)
    steps = [
        *_load_number(machine),
        *_refuse(_CLONE3, errno.ENOSYS),  # flags are in memory; libc falls back to clone
    ]
    for numbers in _REFUSED.values():
        if (number := numbers[column]) is not None:
            steps += _refuse(number, errno.EPERM)
    for numbers in (_SOCKET, _SOCKETPAIR):
        steps += _decide_by_argument(
            numbers[column], _EQUAL, socket.AF_UNIX, _ALLOW, _ERRNO | errno.EACCES
        )
    steps += _decide_by_argument(
        _CLONE[column], _ANY_BIT, _NEW_NAMESPACES, _ERRNO | errno.EPERM, _ALLOW
    )
    return b"".join([*steps, _step(_RETURN, _ALLOW)])


def computing(machine: str) -> bytes:
    """Returns the additional filter of a process that only computes."""
    column = list(ARCHITECTURES).index(machine)
    steps = _load_number(machine)
    for numbers in _COMPUTING.values():
        if (number := numbers[column]) is not None:
            steps += [_step(_EQUAL, number, no=1), _step(_RETURN, _ALLOW)]
    for numbers, flags in ((_OPEN, 1), (_OPENAT, 2)):
        if (number := numbers[column]) is not None:
            refused = _ERRNO | errno.EPERM
            steps += _decide_by_argument(
                number, _ANY_BIT, _WRITING, refused, _ALLOW, argument=flags
            )
    return b"".join([*steps, _step(_RETURN, _ERRNO | errno.EPERM)])


def _load_number(machine: str) -> list[bytes]:
    """Returns steps that load the call's number and end the process for a foreign ABI."""
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


def _decide_by_argument(
    number: int, test: int, value: int, holds: int, fails: int, argument: int = 0
) -> list[bytes]:
    """Returns steps that decide on call `number` by the lower 32 bits of one argument."""
    return [
        _step(_EQUAL, number, no=4),
        _step(_LOAD, _FIRST_ARGUMENT + 8 * argument),
        _step(test, value, no=1),
        _step(_RETURN, holds),
        _step(_RETURN, fails),
    ]


def _step(operation: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    """Encodes an instruction; `yes`, `no`: how many to skip if a comparison holds or does not."""
    return struct.pack("=HBBI", operation, yes, no, value)
