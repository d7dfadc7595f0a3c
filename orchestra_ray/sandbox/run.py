"""A sandbox for untrusted Python programs: bubblewrap, resource limits and a watchdog.

Each run has its own namespaces (user, mount, PID, network, IPC, UTS, cgroup), a read-only root
(`rootfs`), a scratch folder /tmp in memory, no /proc, no capabilities, a system-call filter
(`seccomp`), a minimal environment, and a first process (`init`) whose end ends all others. If any
of this is unavailable, `Sandbox()` raises; no program runs without protection.

How each resource is bounded:
- Wall time: a timer here kills the first process, and the kernel all others with it.
- CPU time, address space, open files, size of a file: resource limits of each process.
- Processes plus threads: RLIMIT_NPROC, which Linux counts per user namespace since 5.14 (earlier
  together with the user's other processes, so a run may get fewer, never more). It does not apply
  to the host's root, so root first switches to the user nobody. The probe tests the limit.
- Bytes of files: the size of the scratch. Output: only the kept bytes are held in memory.
- Total memory, number of files: checked from outside every WATCH_PERIOD_S; a run above a limit is
  killed. Between two checks, many processes can take up to `processes` x `memory_mib`; a harder
  bound needs a cgroup.
- Kernel memory: buffers of pipes and sockets, up to `processes` x `open_files` x 0.4 MiB, bounded
  in time by the wall limit. To bound all memory, run the executors in a container with a limit.
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

from orchestra_ray.sandbox.command import MIB, SandboxError, SandboxLimits, Setup, set_up

CHUNK_BYTES = 65_536
START_DEADLINE_S = 30.0
WATCH_PERIOD_S = 0.1
MEMORY_FIELDS = {"RssAnon", "RssShmem", "VmSwap"}  # of /proc/PID/status
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
print(*[f"not isolated: {{name}}" for name in holds if not holds[name]] or ["contained"])
"""


class Limit(StrEnum):
    """The limit that ended a program."""

    WALL = "wall time"
    CPU = "CPU time"
    MEMORY = "memory"
    FILES = "number of files"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class StreamOutput:
    """The kept text of a stream, and the size of the whole output."""

    text: str
    size_bytes: int
    cut: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run. `exit_code` is -n after signal n, None if `limit` ended the program."""

    stdout: StreamOutput
    stderr: StreamOutput
    exit_code: int | None
    limit: Limit | None
    wall_s: float


def exit_text(code: int) -> str:
    """Describes an exit code, which is -n after signal n."""
    if code >= 0:
        return f"exit status {code}"
    known = -code in set(signal.Signals)
    return f"killed by {signal.Signals(-code).name if known else f'signal {-code}'}"


def check() -> str | None:
    """Returns why the sandbox cannot run here and the remedy, on one line; None if it can."""
    try:
        Sandbox(SandboxLimits())
    except SandboxError as error:
        return str(error)
    return None


def source_bytes(program: str) -> bytes:
    """Encodes the program as an editor would: in its declared encoding, UTF-8 by default."""
    data = program.encode(errors="surrogatepass")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        if encoding.startswith("utf-8") or _ASCII.decode().encode(encoding) != _ASCII:
            return data
        return program.encode(encoding)
    except (SyntaxError, LookupError, UnicodeError):  # the interpreter will report it
        return data


class Sandbox:
    """Runs any number of programs concurrently, isolated from each other."""

    def __init__(self, limits: SandboxLimits, packages: Sequence[str] = ()):
        """Probes the isolation and raises `SandboxError` if it fails. Slow once per machine.

        packages: names of installed distributions that programs can import.
        """
        self._setup = set_up(limits, packages)
        self._runs: dict[asyncio.Task[Outcome], _Run] = {}
        with ThreadPoolExecutor(1) as thread:  # the caller's thread may be running a loop
            thread.submit(asyncio.run, _probe(limits, packages)).result()

    async def run(self, program: str) -> Outcome:
        """Runs `program` to its end or a limit. If cancelled, returns after its processes ended."""
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
            task.exception()  # marks it as retrieved, if the caller was cancelled

    async def close(self) -> None:
        """Ends the running programs; their callers get a `SandboxError`."""
        for run in self._runs.values():
            run.end()
        if self._runs:
            await asyncio.wait(self._runs)


async def _probe(limits: SandboxLimits, packages: Sequence[str]) -> None:
    """Raises `SandboxError` if the sandbox does not start or does not isolate."""
    few = replace(limits, wall_s=START_DEADLINE_S, processes=PROBE_PROCESSES)
    try:
        outcome = await _Run(set_up(few, packages)).complete(PROBE.encode())
    except SandboxError as error:
        raise SandboxError(f"{error}; {REMEDY}") from None
    if outcome.stdout.text != "contained\n":
        reason = outcome.stdout.text or outcome.stderr.text or f"ended by {outcome.limit}"
        reason = reason.strip().splitlines()[-1]
        raise SandboxError(f"sandbox: {reason}; use another kernel or container runtime")


class _Run:
    """One program, from its start to the end of all its processes."""

    def __init__(self, setup: Setup):
        self._setup, self._limits = setup, setup.limits
        self._ended = False
        self._limit: Limit | None = None
        self._init: int | None = None  # pidfd of process 1, as its PID may be reused

    def end(self, limit: Limit | None = None) -> None:
        """Kills all processes of the program; only the first call's `limit` is recorded."""
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
                self._attach(json.loads(line)["child-pid"], undo)
            assert process.stdin and process.stdout and process.stderr
            stdout, stderr, code, _ = await asyncio.gather(
                self._read(process.stdout, limits.stdout_bytes, first=True),
                self._read(process.stderr, limits.stderr_bytes, first=False),
                process.wait(),
                _send(process.stdin, program),
            )
            status = _parsed_report(await report.read())
            if self._limit is None and (self._ended or "exit-code" not in status):
                why = "it was closed" if self._ended else stderr.text.strip().rpartition("\n")[2]
                raise SandboxError(f"sandbox: {why}")
        if "status" in status:
            exit_code = os.waitstatus_to_exitcode(status["status"])
        else:  # the first process was killed; bubblewrap adds 128 to a signal
            exit_code = code if code <= 128 else 128 - code
        limit = Limit.CPU if exit_code == -signal.SIGXCPU else self._limit
        wall_s = time.monotonic() - started
        return Outcome(stdout, stderr, None if limit else exit_code, limit, wall_s)

    async def _start(self, undo: ExitStack) -> tuple[Process, asyncio.StreamReader]:
        """Starts bubblewrap; returns it and its report: first the PID of process 1, then exits."""
        loop = asyncio.get_running_loop()
        report = asyncio.StreamReader()
        read_fd, write_fd = os.pipe()
        with (
            open(write_fd, "wb") as write_end,
            open(os.dup(write_fd), "wb") as init_end,  # bubblewrap does not pass the other one on
            _memory_file(self._setup.system_calls) as calls,
        ):
            pipe, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(report), open(read_fd, "rb")
            )
            undo.callback(pipe.close)
            descriptors = (write_end.fileno(), calls.fileno())
            options = ("--json-status-fd", str(descriptors[0]), "--seccomp", str(descriptors[1]))
            inside = (*self._setup.inside, str(init_end.fileno()))
            process = await asyncio.create_subprocess_exec(
                *(*self._setup.command, *options, "--", *inside),
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                pass_fds=(*descriptors, init_end.fileno()),
                cwd="/",
            )
        start_and_run_s = START_DEADLINE_S + self._limits.wall_s
        undo.callback(loop.call_later(start_and_run_s, process.kill).cancel)
        return process, report

    def _attach(self, init_pid: int, undo: ExitStack) -> None:
        """Makes the program killable, and starts its timer and the watchdog."""
        self._init = os.pidfd_open(init_pid)  # valid, since bubblewrap has not reaped it
        undo.callback(self._detach, self._init)
        if self._ended:
            self.end()
        loop = asyncio.get_running_loop()
        undo.callback(loop.call_later(self._limits.wall_s, self.end, Limit.WALL).cancel)
        undo.callback(loop.create_task(self._watch(init_pid)).cancel)

    def _detach(self, init: int) -> None:
        self.end()
        self._init = None
        os.close(init)

    async def _watch(self, init_pid: int) -> None:
        """Polls the resources that no kernel limit bounds."""
        while not self._ended:
            await asyncio.sleep(WATCH_PERIOD_S)
            with suppress(OSError):  # the process ended meanwhile
                if sum(map(_held_bytes, _process_tree(init_pid))) > self._limits.memory_mib * MIB:
                    self.end(Limit.MEMORY)
                if self._files(init_pid) > self._limits.scratch_files:
                    self.end(Limit.FILES)

    def _files(self, init_pid: int) -> int:
        """Returns the number of files in the scratch, 0 until the first process is in its root."""
        if not os.path.samefile(f"/proc/{init_pid}/root", self._setup.root):
            return 0
        scratch = os.statvfs(f"/proc/{init_pid}/root/tmp")
        return scratch.f_files - scratch.f_ffree

    async def _read(
        self, stream: asyncio.StreamReader, keep_bytes: int, first: bool
    ) -> StreamOutput:
        """Reads to the end, keeping the first or the last bytes; ends a run above its limit."""
        kept, size_bytes = bytearray(), 0
        while chunk := await stream.read(CHUNK_BYTES):
            size_bytes += len(chunk)
            kept += chunk
            excess = max(0, len(kept) - keep_bytes)
            del kept[slice(len(kept) - excess, None) if first else slice(excess)]
            if size_bytes > self._limits.output_mib * MIB:
                self.end(Limit.OUTPUT)
        return StreamOutput(kept.decode(errors="replace"), size_bytes, size_bytes > keep_bytes)


def _parsed_report(report: bytes) -> dict[str, int]:
    """Merges lines of JSON; the last one may be incomplete if its writer was killed."""
    status: dict[str, int] = {}
    for line in report.splitlines():
        with suppress(ValueError):
            status |= json.loads(line)
    return status


async def _send(stdin: asyncio.StreamWriter, program: bytes) -> None:
    with suppress(ConnectionError):  # bubblewrap failed; its stderr has the reason
        stdin.write(program)
        await stdin.drain()
    stdin.close()


def _memory_file(content: bytes) -> IO[bytes]:
    file = open(os.memfd_create("orchestra"), "w+b")
    file.write(content)
    file.seek(0)
    return file


def _process_tree(pid: int) -> Iterator[int]:
    """Yields the process and its descendants, maybe without those that start or end meanwhile."""
    yield pid
    for thread in os.listdir(f"/proc/{pid}/task"):
        with suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                yield from _process_tree(int(child))


def _held_bytes(pid: int) -> int:
    """Returns a process's memory without file pages; shared memory counts for each process."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        pairs = (line.split(":") for line in lines)
        return sum(int(text.split()[0]) * 1024 for name, text in pairs if name in MEMORY_FIELDS)
    return 0
