"""The code tool: runs a Python program of the policy in the sandbox, and returns its output.

A program that fails, or that a limit stops, is an ordinary answer, whose text says so. Without a
sandbox every call is refused; no program runs outside it.
"""

import re
from collections.abc import Sequence

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.sandbox.command import SandboxError, SandboxLimits
from orchestra_ray.sandbox.run import Limit, Outcome, Sandbox, exit_text
from orchestra_ray.workers.tools.base import Reply

MAX_PROGRAM_BYTES = 262_144
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class CodeTool:
    """A `Tool` with the argument `code`. `unavailable` says why it cannot run; None if it can."""

    def __init__(self, limits: SandboxLimits, packages: Sequence[str] = ()):
        """Probes the sandbox. packages: installed distributions that programs can import."""
        self._limits = limits
        self._sandbox: Sandbox | None = None
        self.unavailable: str | None = None
        try:
            self._sandbox = Sandbox(limits, packages)
        except SandboxError as error:
            self.unavailable = str(error)

    async def call(self, request: ToolRequest) -> Reply:
        if self._sandbox is None:
            raise Fault(FaultKind.UNAVAILABLE, str(self.unavailable))
        program = checked(request.arguments["code"])
        try:
            outcome = await self._sandbox.run(program)
        except SandboxError as error:
            raise Fault(FaultKind.UNAVAILABLE, str(error)) from None
        return Reply(described(outcome, self._limits))

    async def close(self) -> None:
        if self._sandbox is not None:
            await self._sandbox.close()


def checked(program: str) -> str:
    """Returns the program; raises `Fault` if it cannot be encoded or is too long."""
    try:
        size_bytes = len(program.encode())
    except UnicodeEncodeError as error:
        raise Fault(FaultKind.BAD_INPUT, f"the code is not text: {error.reason}") from None
    if size_bytes > MAX_PROGRAM_BYTES:
        raise Fault(FaultKind.BAD_INPUT, f"the code is longer than {MAX_PROGRAM_BYTES} bytes")
    return program


def described(outcome: Outcome, limits: SandboxLimits) -> str:
    """Returns the text for the policy: stdout, the end of stderr, and how the program ended."""
    out, err = outcome.stdout, outcome.stderr
    lines = [_clean(out.text)]
    if out.cut:
        lines.append(f"[stdout cut: the first {limits.stdout_bytes} of {out.size_bytes} bytes]")
    if err.cut:
        lines.append(f"[stderr cut: the last {limits.stderr_bytes} of {err.size_bytes} bytes]")
    elif err.text:
        lines.append("[stderr]")
    lines += [_clean(err.text), _ending(outcome, limits)]
    return "\n".join(line for line in lines if line) or "[no output]"


def _ending(outcome: Outcome, limits: SandboxLimits) -> str:
    match outcome.limit, outcome.exit_code:
        case Limit.WALL, _:
            return f"[stopped: it ran longer than {limits.wall_s:g} s]"
        case Limit.CPU, _:
            return f"[stopped: it used more than {limits.cpu_s} s of processor time]"
        case Limit.MEMORY, _:
            return f"[stopped: it used more than {limits.memory_mib} MiB of memory]"
        case Limit.FILES, _:
            return f"[stopped: it made more than {limits.scratch_files} files]"
        case Limit.OUTPUT, _:
            return f"[stopped: it printed more than {limits.output_mib} MiB]"
        case _, int(code) if code != 0:
            return f"[{exit_text(code)}]"
    return ""


def _clean(text: str) -> str:
    """Escapes control characters and overrides of the writing direction.

    They would affect a terminal, or the lines that follow. CR LF becomes LF.
    """
    return _CONTROL.sub(_escaped, text.replace("\r\n", "\n")).strip("\n")


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()
