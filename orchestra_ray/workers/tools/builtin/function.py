"""Python functions of the user as tools: by import path, each in processes of its own.

The user's code is imported and run only there (see `function_host`), so it can affect one call
only: a crash, a hang, too much memory or output is that call's fault. The process group is then
killed, and the next call starts another. A process runs one call at a time; further calls wait.
Output is dropped, except for the end of standard error: if the process dies, the fault names the
last error in it, and its lines are logged. Processes end at `close`, and with their parent.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.process_log import MAX_BYTES, lines_of, reason_in
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.data.tasks.private import is_private
from orchestra_ray.tracking.redact import Redactor
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.builtin import function_host

_BYTES_PER_CHARACTER = 4  # at most, in UTF-8
_BYTES_BESIDE = 2**20  # for a signature, or a fault
_REAP_S = 10.0  # after SIGKILL, which only the kernel can delay
_STDERR_S = 0.2  # for reading the end of a dead process's standard error
_REASON_CHARACTERS = 300

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FunctionLimits:
    processes: int = 1
    deadline_s: float = 60.0  # of a call, with its wait for a process
    start_s: float = 60.0  # of a process, with the imports of the user's module
    memory_mib: int | None = None  # address space of a process; None: unlimited
    reply_characters: int = 4_000_000


@dataclass(frozen=True, slots=True)
class Signature:
    """The signature of a function; `schema` is the JSON schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, Any]


class FunctionTool:
    """The function at `package.module:name`; raises `ConfigError` if it cannot be a tool.

    `python_path` is searched before this process's paths. The constructor waits for one import.
    """

    def __init__(
        self,
        path: str,
        limits: FunctionLimits = FunctionLimits(),
        python_path: Sequence[str | Path] = (),
    ):
        self._path, self._limits = path, limits
        self._python_path = [str(entry) for entry in python_path]
        self.signature = signature_of(path, python_path, limits)
        self._slots = asyncio.Semaphore(limits.processes)
        self._ready: list[asyncio.Task[_Process]] = []  # idle; some are still starting
        self._processes: set[_Process] = set()
        self._endings: set[asyncio.Task[None]] = set()
        self._open = True

    async def call(self, request: ToolRequest) -> Reply:
        arguments = json.dumps(request.arguments).encode()
        try:
            async with asyncio.timeout(self._limits.deadline_s), self._slots:
                return Reply(await self._ask(arguments, is_private(request.task)))
        except TimeoutError:
            text = f"no answer within {self._limits.deadline_s:g} s"
            raise Fault(FaultKind.TIMEOUT, text) from None

    async def close(self) -> None:
        """Kills the processes; calls in flight fail."""
        self._open = False
        ready, self._ready = self._ready, []
        await asyncio.gather(*(process.end() for process in self._processes))
        await asyncio.gather(*ready, *self._endings, return_exceptions=True)

    async def _ask(self, arguments: bytes, private: bool) -> str:
        """Calls the function. private: its standard error is not logged."""
        ready = self._ready.pop() if self._ready else asyncio.create_task(self._start())
        try:
            process = await asyncio.shield(ready)
        except asyncio.CancelledError:
            self._ready.append(ready)  # it continues to start, for the next call
            raise
        try:
            fault, text = await process.ask(arguments)
        except BaseException:  # a cancelled call's too: its answer would be read as the next one's
            if process.stderr_tail and not private:
                _log.warning("%s: last stderr:\n%s", self._path, "\n".join(process.stderr_tail))
            self._end(process)
            raise
        self._ready.append(ready)
        if fault is not None:
            raise Fault(fault, text)
        return text

    async def _start(self) -> "_Process":
        if not self._open:
            raise Fault(FaultKind.UNAVAILABLE, "the tool is closed")
        try:
            process = _Process(self._path, self._limits, self._python_path)
        except OSError as error:
            raise Fault(FaultKind.UNAVAILABLE, f"no process: {error.strerror}") from None
        self._processes.add(process)
        try:
            await process.start()
        except Fault as fault:
            self._end(process)
            raise Fault(FaultKind.UNAVAILABLE, f"no process: {fault}") from None
        return process

    def _end(self, process: "_Process") -> None:
        process.kill()
        ending = asyncio.create_task(process.end())
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        self._processes.discard(process)


def signature_of(
    path: str, python_path: Sequence[str | Path] = (), limits: FunctionLimits = FunctionLimits()
) -> Signature:
    """Returns the function's signature, read in a process that ends afterwards."""
    where = f"function {path}"
    if not all(path.partition(":")):
        raise ConfigError(f"{where}: not an import path; write package.module:name")
    try:
        process = _Process(path, limits, [str(entry) for entry in python_path])
        fault, text = process.read_signature()
    except OSError as error:
        raise ConfigError(f"{where}: no process for it ({error}); free memory") from None
    except Fault as error:
        raise ConfigError(f"{where}: {error} at its import; correct it") from None
    if fault is not None:
        raise ConfigError(f"{where}: {text}")
    return Signature(**json.loads(text))


class _Process:
    """One host process, the leader of its own process group, and the socket to it."""

    def __init__(self, path: str, limits: FunctionLimits, python_path: Sequence[str]):
        self._start_s = limits.start_s
        self.stderr_tail: tuple[str, ...] = ()  # if it ended by itself
        self._most_bytes = limits.reply_characters * _BYTES_PER_CHARACTER + _BYTES_BESIDE
        search = [*python_path, *(entry or os.getcwd() for entry in sys.path)]
        self._socket, theirs = socket.socketpair()
        self._writer: asyncio.StreamWriter | None = None  # owns the socket once it exists
        settings = {
            "path": path,
            "socket": theirs.fileno(),
            "memory_mib": limits.memory_mib,
            "reply_characters": limits.reply_characters,
        }
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", function_host.__name__, json.dumps(settings)],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(search)},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        assert self._process.stderr is not None
        self._stderr = _StderrTail(self._process.stderr)

    def read_signature(self) -> tuple[FaultKind | None, str]:
        """Returns the first frame, read without an event loop, and ends the process."""
        self._socket.settimeout(self._start_s)
        try:
            with self._socket, self._socket.makefile("rb") as stream:
                payload = function_host.receive(stream)
        except TimeoutError:
            raise Fault(FaultKind.TIMEOUT, f"not ready within {self._start_s:g} s") from None
        finally:
            self.kill()
            self._process.wait(_REAP_S)
        if payload is None:
            raise Fault(FaultKind.SERVER_ERROR, self._how_it_ended())
        return _read(payload)

    async def start(self) -> None:
        """Waits until the function is imported; raises `Fault` if it cannot be."""
        self._reader, self._writer = await asyncio.open_connection(sock=self._socket)
        try:
            async with asyncio.timeout(self._start_s):
                fault, text = await self._receive()
        except TimeoutError:
            raise Fault(FaultKind.TIMEOUT, f"not ready within {self._start_s:g} s") from None
        if fault is not None:
            raise Fault(fault, text)

    async def ask(self, arguments: bytes) -> tuple[FaultKind | None, str]:
        """Returns the function's fault or text; raises `Fault` if the process failed."""
        assert self._writer is not None, "not started"
        self._writer.write(function_host.LENGTH.pack(len(arguments)) + arguments)
        with contextlib.suppress(ConnectionError):  # the process is dead; reading reports how
            await self._writer.drain()
        return await self._receive()

    def kill(self) -> None:
        """Kills the process group, including what the function started in it."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # just reaped by the thread of `end`
                os.killpg(self._process.pid, signal.SIGKILL)

    async def end(self) -> None:
        self.kill()
        (self._writer or self._socket).close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, _REAP_S)

    async def _receive(self) -> tuple[FaultKind | None, str]:
        try:
            header = await self._reader.readexactly(function_host.LENGTH.size)
            [length_bytes] = function_host.LENGTH.unpack(header)
            if length_bytes > self._most_bytes:
                raise Fault(FaultKind.BAD_REPLY, f"answered with {length_bytes} bytes, too many")
            return _read(await self._reader.readexactly(length_bytes))
        except (asyncio.IncompleteReadError, ConnectionError):
            await self.end()
            raise Fault(FaultKind.SERVER_ERROR, self._how_it_ended()) from None

    def _how_it_ended(self) -> str:
        code = self._process.returncode
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        text = f"the function's process ended: {how}"
        hide = Redactor.of().text
        self.stderr_tail = tuple(hide(line) for line in self._stderr.lines())
        reason = reason_in(self.stderr_tail)[:_REASON_CHARACTERS]
        return f"{text}; its last error: {reason}" if reason else text


class _StderrTail:
    """Keeps the end of a process's standard error, read by a thread so that it never blocks."""

    def __init__(self, stream: IO[bytes]):
        self._kept = b""
        self._reading = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._reading.start()

    def lines(self) -> tuple[str, ...]:
        """Returns the last lines of a dead process, whose children may still hold the stream."""
        self._reading.join(_STDERR_S)
        return lines_of(self._kept)

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while written := os.read(stream.fileno(), 65_536):
                self._kept = (self._kept + written)[-MAX_BYTES:]


def _read(payload: bytes) -> tuple[FaultKind | None, str]:
    fault, _, text = payload.partition(b"\n")
    try:
        kind = FaultKind(fault.decode()) if fault else None
        return kind, text.decode("utf-8", "surrogatepass")
    except ValueError:
        raise Fault(FaultKind.BAD_REPLY, "answered with what cannot be read") from None
