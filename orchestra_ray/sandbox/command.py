"""What a sandbox is made of: limits, the command line of bubblewrap, the first process.

The command is the same for every run, but for the numbers of three descriptors; nothing in it comes
from a program.
"""

import math
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from pathlib import Path

from orchestra_ray.sandbox import init as sandbox_init
from orchestra_ray.sandbox import rootfs as sandbox_root
from orchestra_ray.sandbox import seccomp

MIB = 2**20
NOBODY = 65_534
GIVE_UP_S = 30  # after the wall limit the first process ends by itself


class SandboxError(RuntimeError):
    """A program could not be run, for a reason that is not its own; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one run. `memory_mib` bounds each address space, and what all processes hold together."""

    wall_s: float = 10.0
    cpu_s: int = 10  # of each process
    memory_mib: int = 1024
    processes: int = 32  # with threads, and with the sandbox's own first process
    open_files: int = 64
    scratch_mib: int = 64
    scratch_files: int = 10_000
    output_mib: int = 16  # of each stream, kept or not
    stdout_bytes: int = 16_384  # kept: the first
    stderr_bytes: int = 4_096  # kept: the last


@dataclass(frozen=True, slots=True)
class Setup:
    """What all runs under the same limits have in common."""

    limits: Limits
    root: Path
    walls: Sequence[str]  # bubblewrap and its options; more may follow
    inside: Sequence[str]  # the first process, which takes the program from its stdin; a
    # descriptor for its report follows
    system_calls: bytes


def set_up(limits: Limits, packages: Sequence[str]) -> Setup:
    """Makes the root folder where it is missing; `SandboxError` where a part of all this is."""
    _require_parts()
    try:
        root = sandbox_root.root_folder(packages)
    except (OSError, PackageNotFoundError) as error:
        raise SandboxError(f"sandbox: no copy of Python could be made: {error}") from None
    give_up_s = str(math.ceil(limits.wall_s) + GIVE_UP_S)
    return Setup(
        limits,
        root,
        walls=(*_as_nobody(), "bwrap", *_NAMESPACES, *_folders(root, limits), *_environment()),
        inside=(sandbox_root.INTERPRETER, sandbox_init.PROGRAM, give_up_s, *_resources(limits)),
        system_calls=seccomp.program(platform.machine()),
    )


def _require_parts() -> None:
    if platform.system() != "Linux" or platform.machine() not in seccomp.ARCHITECTURES:
        machines = " or ".join(seccomp.ARCHITECTURES)
        raise SandboxError(f"sandbox: it needs Linux on {machines}; run the executors there")
    try:
        os.close(os.pidfd_open(os.getpid()))
        os.stat(f"/proc/self/task/{os.getpid()}/children")
    except OSError:
        needs = "it needs Linux 5.3 with CONFIG_PROC_CHILDREN, and /proc; use another kernel"
        raise SandboxError(f"sandbox: {needs}") from None
    for program, package in (("bwrap", "bubblewrap"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            raise SandboxError(f"sandbox: there is no {program}; apt install {package}")


# --as-pid-1: bubblewrap's own first process would outlive bubblewrap for a moment, as an orphan
# that the init of a container need not reap.
_NAMESPACES = (
    *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
    *("--unshare-cgroup", "--as-pid-1", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
    *("--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "sandbox"),
)


def _as_nobody() -> list[str]:
    """Root's processes are not counted, in whatever namespace, so root becomes somebody else."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def _folders(root: Path, limits: Limits) -> list[str]:
    options = ["--ro-bind", str(root), "/"]
    for device in sandbox_root.DEVICES:
        options += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    return [*options, "--size", str(limits.scratch_mib * MIB), "--tmpfs", "/tmp", "--chdir", "/tmp"]


def _environment() -> list[str]:
    variables = {
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "LD_LIBRARY_PATH": sandbox_root.LIBRARIES,
        "MALLOC_ARENA_MAX": "2",  # an arena for each thread would use up the address space
        "OMP_NUM_THREADS": "1",  # numpy would start a thread for each processor of the host
        "PATH": os.path.dirname(sandbox_root.INTERPRETER),
        "PYTHONHASHSEED": "0",  # the same program prints the same in a resumed run
        "PYTHONPATH": sandbox_root.PACKAGES,
        "PYTHONUTF8": "1",
    }
    options = ["--clearenv"]
    for name, value in variables.items():
        options += ["--setenv", name, value]
    return options


def _resources(limits: Limits) -> list[str]:
    """Soft and hard values, as `sandbox_init` takes them."""
    soft_and_hard = {
        "RLIMIT_AS": (limits.memory_mib * MIB,) * 2,
        "RLIMIT_CORE": (1, 1),  # 0 would still feed a core pattern that is a pipe
        "RLIMIT_CPU": (limits.cpu_s, limits.cpu_s + 1),  # SIGXCPU, then SIGKILL
        "RLIMIT_FSIZE": (limits.scratch_mib * MIB,) * 2,
        "RLIMIT_MEMLOCK": (0, 0),
        "RLIMIT_NOFILE": (limits.open_files,) * 2,
        "RLIMIT_NPROC": (limits.processes,) * 2,
        "RLIMIT_RTPRIO": (0, 0),
    }
    return [f"{name}={soft}:{hard}" for name, (soft, hard) in soft_and_hard.items()]
