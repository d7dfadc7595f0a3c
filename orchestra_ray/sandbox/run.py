"""A sandbox for Python programs that nobody has read: bubblewrap, resource limits, a kill switch.

Each run has namespaces of its own (user, mount, PID, network, IPC, UTS, cgroup), a read-only root
(`sandbox_root`), a scratch folder /tmp in memory, no /proc, no capability, a filter on system calls
(`seccomp`), an empty environment, and a first process (`sandbox_init`) that nothing outlives. Where
any of this cannot be had `Sandbox()` raises; there is no unprotected way to run.

What bounds what:
- wall time: a timer here kills the first process, and the kernel all others with it.
- CPU time, address space, open files, the size of a file: resource limits, of each process.
- processes and threads together: RLIMIT_NPROC, which Linux counts in each user namespace by itself
  since 5.14 (before that with all else of the user: a run may get too few, never too many). It
  does not hold for the host's root, so root becomes nobody first; the probe tries that it holds.
- bytes of files: the size of the scratch. Output: no more is held than is kept.
- memory of all processes together, number of files: looked at every WATCH_PERIOD_S from outside; a
  run that is over is killed. Between two looks, many processes at once can take up to
  `processes` x `memory_mib`: there is no harder bound without a cgroup of one's own.
- the kernel's own memory for a run: buffers of pipes and sockets, up to `processes` x `open_files`
  x 0.4 MiB, and small things, by its seconds. A container with a memory limit around the executors
  bounds all of that.
"""

import asyncio
import io
import json
import os
import signal
import time
import tokenize
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import IO

from orchestra_ray.sandbox.command import MIB, Limits, SandboxError, Setup, set_up

CHUNK_BYTES = 65_536
START_DEADLINE_S = 30.0
WATCH_PERIOD_S = 0.1
HELD = {"RssAnon", "RssShmem", "VmSwap"}  # of /proc/PID/status
REMEDY = (
    "allow user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), "
    "user.max_user_namespaces=10000; docker run --security-opt seccomp=unconfined"
)
PROBE_PROCESSES = 8
_ASCII = bytes(range(128))
PROBE = f"""
import os, signal, socket
def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError:
        return True
def fork_without_end():
    for _ in range({PROBE_PROCESSES}):
        if os.fork() == 0:
            signal.pause()
holds = dict(
    network=refused(socket.socket),
    files=refused(os.mkdir, "/dev/probe"),
    calls=refused(os.chroot, "/tmp"),
    processes=refused(fork_without_end),
)
print(*[f"no wall around {{name}}" for name in holds if not holds[name]] or ["contained"])
"""


class Limit(StrEnum):
    """What ended a program before its own end."""

    WALL = "wall time"
    CPU = "CPU time"
    MEMORY = "memory"
    FILES = "number of files"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Printed:
    """What was kept of one stream, and how much there was."""

    text: str
    size_bytes: int
    cut: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run. `exit_code` is -n after signal n, and None where `limit` ended the program."""

    stdout: Printed
    stderr: Printed
    exit_code: int | None
    limit: Limit | None
    wall_s: float


def exit_words(code: int) -> str:
    """How a program ended, from its exit code, which is -n after signal n."""
    if code >= 0:
        return f"exit status {code}"
    known = -code in set(signal.Signals)
    return f"killed by {signal.Signals(-code).name if known else f'signal {-code}'}"


def check() -> str | None:
    """Why the sandbox cannot run here, in a line with what to do; None: it can."""
    try:
        Sandbox(Limits())
    except SandboxError as error:
        return str(error)
    return None


def source_bytes(program: str) -> bytes:
    """The program as an editor saves it: in the encoding that its first lines state, or UTF-8."""
    data = program.encode(errors="surrogatepass")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        if encoding.startswith("utf-8") or _ASCII.decode().encode(encoding) != _ASCII:
            return data
        return program.encode(encoding)
    except (SyntaxError, LookupError, UnicodeError):  # an error of the program's own
        return data


class Sandbox:
    """Runs programs, any number at a time, none seeing another. Made only where it holds."""

    def __init__(self, limits: Limits, packages: Sequence[str] = ()):
        """Probes; takes long the first time on a machine. `packages`: distributions to import."""
        self._setup = set_up(limits, packages)
        self._runs: dict[asyncio.Task[Outcome], _Run] = {}
        with ThreadPoolExecutor(1) as thread:  # the caller's own may be running a loop
            thread.submit(asyncio.run, _probe(limits, packages)).result()

    async def run(self, program: str) -> Outcome:
        """Runs `program` to its end or to a limit. Cancelled, it returns when all is dead."""
        run = _Run(self._setup)
        task = asyncio.create_task(run.complete(source_bytes(program)))
        self._runs[task] = run
        task.add_done_callback(self._forget)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            run.end()
            await asyncio.wait([task])
            raise

    def _forget(self, task: asyncio.Task[Outcome]) -> None:
        del self._runs[task]
        if not task.cancelled():
            task.exception()  # nobody else asks for it where the caller was cancelled

    async def close(self) -> None:
        """Ends the programs that still run; their callers get a `SandboxError`."""
        for run in self._runs.values():
            run.end()
        if self._runs:
            await asyncio.wait(self._runs)


async def _probe(limits: Limits, packages: Sequence[str]) -> None:
    """`SandboxError` where the sandbox does not start, or where one of its walls is not there."""
    few = replace(limits, wall_s=START_DEADLINE_S, processes=PROBE_PROCESSES)
    try:
        outcome = await _Run(set_up(few, packages)).complete(PROBE.encode())
    except SandboxError as error:
        raise SandboxError(f"{error}; {REMEDY}") from None
    if outcome.stdout.text != "contained\n":
        said = outcome.stdout.text or outcome.stderr.text or f"ended by {outcome.limit}"
        said = said.strip().splitlines()[-1]
        raise SandboxError(f"sandbox: {said}; use another kernel or container runtime")


class _Run:
    """One program from its start until nothing of it is left."""

    def __init__(self, setup: Setup):
        self._setup, self._limits = setup, setup.limits
        self._ended = False
        self._limit: Limit | None = None
        self._init: int | None = None  # a descriptor of process 1: its number may be used again

    def end(self, limit: Limit | None = None) -> None:
        """Kills the program and all that it started; the first reason to do so stands."""
        if not self._ended:
            self._ended, self._limit = True, limit
        if self._init is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._init, signal.SIGKILL)

    async def complete(self, program: bytes) -> Outcome:
        try:
            return await self._complete(program)
        except OSError as error:
            raise SandboxError(f"sandbox: it does not start: {error}") from None

    async def _complete(self, program: bytes) -> Outcome:
        limits = self._limits
        with ExitStack() as undo:
            started = time.monotonic()
            process, report = await self._start(undo)
            if line := await report.readline():
                self._hold(json.loads(line)["child-pid"], undo)
            assert process.stdin and process.stdout and process.stderr
            stdout, stderr, code, _ = await asyncio.gather(
                self._read(process.stdout, limits.stdout_bytes, first=True),
                self._read(process.stderr, limits.stderr_bytes, first=False),
                process.wait(),
                _send(process.stdin, program),
            )
            told = _told(await report.read())
            if self._limit is None and (self._ended or "exit-code" not in told):
                why = "it was closed" if self._ended else stderr.text.strip().rpartition("\n")[2]
                raise SandboxError(f"sandbox: {why}")
        if "status" in told:
            exit_code = os.waitstatus_to_exitcode(told["status"])
        else:  # the first process did not live to tell; bubblewrap adds 128 to a signal
            exit_code = code if code <= 128 else 128 - code
        limit = Limit.CPU if exit_code == -signal.SIGXCPU else self._limit
        wall_s = time.monotonic() - started
        return Outcome(stdout, stderr, None if limit else exit_code, limit, wall_s)

    async def _start(self, undo: ExitStack) -> tuple[Process, asyncio.StreamReader]:
        """bubblewrap, and what is reported: the number of process 1, in the end the exit codes."""
        loop = asyncio.get_running_loop()
        report = asyncio.StreamReader()
        read_fd, write_fd = os.pipe()
        with (
            open(write_fd, "wb") as write_end,
            open(os.dup(write_fd), "wb") as told,  # bubblewrap keeps the other one to itself
            _memory_file(self._setup.system_calls) as calls,
        ):
            pipe, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(report), open(read_fd, "rb")
            )
            undo.callback(pipe.close)
            descriptors = (write_end.fileno(), calls.fileno())
            options = ("--json-status-fd", str(descriptors[0]), "--seccomp", str(descriptors[1]))
            process = await asyncio.create_subprocess_exec(
                *(*self._setup.walls, *options, "--", *self._setup.inside, str(told.fileno())),
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                pass_fds=(*descriptors, told.fileno()),
                cwd="/",
            )
        hangs_s = START_DEADLINE_S + self._limits.wall_s
        undo.callback(loop.call_later(hangs_s, process.kill).cancel)
        return process, report

    def _hold(self, init_pid: int, undo: ExitStack) -> None:
        """From here on the program can be ended, and is when its time is over."""
        self._init = os.pidfd_open(init_pid)  # which bubblewrap has not reaped while it runs
        undo.callback(self._let_go, self._init)
        if self._ended:
            self.end()
        loop = asyncio.get_running_loop()
        undo.callback(loop.call_later(self._limits.wall_s, self.end, Limit.WALL).cancel)
        undo.callback(loop.create_task(self._watch(init_pid)).cancel)

    def _let_go(self, init: int) -> None:
        self.end()
        self._init = None
        os.close(init)

    async def _watch(self, init_pid: int) -> None:
        """Looks at what no limit of the kernel bounds; no event tells of it."""
        while not self._ended:
            await asyncio.sleep(WATCH_PERIOD_S)
            with suppress(OSError):  # it ended meanwhile
                if sum(map(_held_bytes, _family(init_pid))) > self._limits.memory_mib * MIB:
                    self.end(Limit.MEMORY)
                if self._files(init_pid) > self._limits.scratch_files:
                    self.end(Limit.FILES)

    def _files(self, init_pid: int) -> int:
        """In the scratch; while bubblewrap builds, the first process is not in its root yet."""
        if not os.path.samefile(f"/proc/{init_pid}/root", self._setup.root):
            return 0
        scratch = os.statvfs(f"/proc/{init_pid}/root/tmp")
        return scratch.f_files - scratch.f_ffree

    async def _read(self, stream: asyncio.StreamReader, keep_bytes: int, first: bool) -> Printed:
        """Reads to the end, which a flood brings nearer; keeps the first or the last bytes."""
        kept, size_bytes = bytearray(), 0
        while chunk := await stream.read(CHUNK_BYTES):
            size_bytes += len(chunk)
            kept += chunk
            excess = max(0, len(kept) - keep_bytes)
            del kept[slice(len(kept) - excess, None) if first else slice(excess)]
            if size_bytes > self._limits.output_mib * MIB:
                self.end(Limit.OUTPUT)
        return Printed(kept.decode(errors="replace"), size_bytes, size_bytes > keep_bytes)


def _told(report: bytes) -> dict[str, int]:
    """What stands in lines of JSON; the last may be cut where its writer was killed."""
    told: dict[str, int] = {}
    for line in report.splitlines():
        with suppress(ValueError):
            told |= json.loads(line)
    return told


async def _send(stdin: asyncio.StreamWriter, program: bytes) -> None:
    with suppress(ConnectionError):  # bubblewrap failed, and says why on stderr
        stdin.write(program)
        await stdin.drain()
    stdin.close()


def _memory_file(content: bytes) -> IO[bytes]:
    file = open(os.memfd_create("orchestra"), "w+b")
    file.write(content)
    file.seek(0)
    return file


def _family(pid: int) -> Iterator[int]:
    """The process and its descendants; one that starts or ends meanwhile may be missing."""
    yield pid
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                yield from _family(int(child))


def _held_bytes(pid: int) -> int:
    """The memory of a process that is not a file's; what two of them share counts twice."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        pairs = (line.split(":") for line in lines)
        return sum(int(text.split()[0]) * 1024 for name, text in pairs if name in HELD)
    return 0
