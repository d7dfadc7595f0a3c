"""Setup of a sandbox: limits, bubblewrap's command line, and that of the first process.

The command line is the same for every run except for three descriptor numbers, and nothing in it
depends on the program.
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
from orchestra_ray.sandbox import rootfs, seccomp

MIB = 2**20
NOBODY = 65_534
GIVE_UP_S = 30  # after the wall limit, the first process ends by itself


class SandboxError(RuntimeError):
    """The sandbox failed, not the program; the text says what to do."""


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """Limits of one run. `memory_mib` bounds each address space and the total resident memory."""

    wall_s: float = 10.0
    cpu_s: int = 10  # of each process
    memory_mib: int = 1024
    processes: int = 32  # including threads and the sandbox's first process
    open_files: int = 64
    scratch_mib: int = 64
    scratch_files: int = 10_000
    output_mib: int = 16  # of each stream, kept or not
    stdout_bytes: int = 16_384  # the first bytes are kept
    stderr_bytes: int = 4_096  # the last bytes are kept


@dataclass(frozen=True, slots=True)
class Setup:
    """The parts of a sandbox that all programs with the same limits share."""

    limits: SandboxLimits
    root: Path
    command: Sequence[str]  # bubblewrap and its options; more may follow
    # Command of the first process, which reads the program from stdin; the descriptor of its
    # report follows.
    inside: Sequence[str]
    system_calls: bytes


def set_up(limits: SandboxLimits, packages: Sequence[str]) -> Setup:
    """Creates the root folder if needed; raises `SandboxError` if a requirement is missing."""
    _require_parts()
    try:
        root = rootfs.root_folder(packages)
    except (OSError, PackageNotFoundError) as error:
        raise SandboxError(f"sandbox: no copy of Python could be made: {error}") from None
    give_up_s = str(math.ceil(limits.wall_s) + GIVE_UP_S)
    return Setup(
        limits,
        root,
        command=(*_drop_root(), "bwrap", *_NAMESPACES, *_folders(root, limits), *_environment()),
        inside=(rootfs.INTERPRETER, sandbox_init.PROGRAM, give_up_s, *_resources(limits)),
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


# --as-pid-1: otherwise bubblewrap's own first process outlives bubblewrap briefly, as an orphan
# that a container's init may not reap.
_NAMESPACES = (
    *("--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"),
    *("--unshare-cgroup", "--as-pid-1", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
    *("--uid", str(NOBODY), "--gid", str(NOBODY), "--hostname", "sandbox"),
)


def _drop_root() -> list[str]:
    """Returns a prefix that drops root, since RLIMIT_NPROC does not apply to root's processes."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def _folders(root: Path, limits: SandboxLimits) -> list[str]:
    options = ["--ro-bind", str(root), "/"]
    for device in rootfs.DEVICES:
        options += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    return [*options, "--size", str(limits.scratch_mib * MIB), "--tmpfs", "/tmp", "--chdir", "/tmp"]


def _environment() -> list[str]:
    variables = {
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "LD_LIBRARY_PATH": rootfs.LIBRARIES,
        "MALLOC_ARENA_MAX": "2",  # an arena per thread would exhaust the address space
        "OMP_NUM_THREADS": "1",  # or numpy starts a thread per processor of the host
        "PATH": os.path.dirname(rootfs.INTERPRETER),
        "PYTHONHASHSEED": "0",  # for the same output in a resumed run
        "PYTHONPATH": rootfs.PACKAGES,
        "PYTHONUTF8": "1",
    }
    options = ["--clearenv"]
    for name, value in variables.items():
        options += ["--setenv", name, value]
    return options


def _resources(limits: SandboxLimits) -> list[str]:
    """Returns resource limits as arguments of `sandbox.init`."""
    soft_and_hard = {
        "RLIMIT_AS": (limits.memory_mib * MIB,) * 2,
        "RLIMIT_CORE": (1, 1),  # with 0, a core pattern that is a pipe still receives the core
        "RLIMIT_CPU": (limits.cpu_s, limits.cpu_s + 1),  # SIGXCPU, then SIGKILL
        "RLIMIT_FSIZE": (limits.scratch_mib * MIB,) * 2,
        "RLIMIT_MEMLOCK": (0, 0),
        "RLIMIT_NOFILE": (limits.open_files,) * 2,
        "RLIMIT_NPROC": (limits.processes,) * 2,
        "RLIMIT_RTPRIO": (0, 0),
    }
    return [f"{name}={soft}:{hard}" for name, (soft, hard) in soft_and_hard.items()]
