"""The code tool: a Python program that the policy wrote, run in the sandbox, and what it printed.

A program that fails, or that a limit ends, is an answer like any other: the text says so. Where the
sandbox cannot be had every call is refused; no program runs outside it.
"""

import re
from collections.abc import Sequence

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.sandbox.command import Limits, SandboxError
from orchestra_ray.sandbox.run import Limit, Outcome, Sandbox, exit_words
from orchestra_ray.workers.tools.base import Reply

MAX_PROGRAM_BYTES = 262_144
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


class CodeTool:
    """A `Tool` whose argument is `code`. `unavailable` says why it cannot run; None: it can."""

    def __init__(self, limits: Limits, packages: Sequence[str] = ()):
        """Probes the sandbox; `packages` are installed distributions that programs can import."""
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
    """The program, where it is text of a size that is worth running; else `Fault`."""
    try:
        size_bytes = len(program.encode())
    except UnicodeEncodeError as error:
        raise Fault(FaultKind.BAD_INPUT, f"the code is not text: {error.reason}") from None
    if size_bytes > MAX_PROGRAM_BYTES:
        raise Fault(FaultKind.BAD_INPUT, f"the code is longer than {MAX_PROGRAM_BYTES} bytes")
    return program


def described(outcome: Outcome, limits: Limits) -> str:
    """What the policy reads: stdout, then the end of stderr, then how the program ended."""
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


def _ending(outcome: Outcome, limits: Limits) -> str:
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
            return f"[{exit_words(code)}]"
    return ""


def _clean(text: str) -> str:
    """The text as it was printed, with what would steer a terminal or the lines after it escaped.

    That is control characters, and those that turn the direction of writing around until told
    otherwise. A line that ends with a carriage return and a newline ends with a newline.
    """
    return _STEERING.sub(_escaped, text.replace("\r\n", "\n")).strip("\n")


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
