"""The first process inside a sandbox: takes one program from stdin, runs it under limits, reaps.

It is handed to the interpreter as text (`python -c`), so it imports nothing of this package. Being
process 1 of its PID namespace it takes the whole namespace with it: what the program left running
is killed by the kernel before this process counts as ended. Its exit status is the program's, or
128 and the signal that ended it. Limits hold for the program only, soft ones and hard ones, and
are set here, inside the user namespace, since processes are counted in the namespace of their
limit.

Arguments: the seconds after which it gives up by itself, then `NAME=soft:hard` for each limit.
"""

from __future__ import annotations

# `signal` itself loads enum, a fifth of what a whole run costs.
import _signal  # pyright: ignore[reportMissingImports]
import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

PROGRAM = "/tmp/program.py"


def main() -> None:
    give_up_s, *limits = sys.argv[1:]
    source = sys.stdin.buffer.read()
    child = os.fork()
    if child == 0:
        run(source, limits)
    else:
        reap_until(child, int(give_up_s))


def reap_until(child: int, give_up_s: int) -> None:
    """Process 1 collects every orphan; the alarm is for a host that died in an unlucky moment."""
    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    _signal.signal(_signal.SIGALRM, lambda *_: os._exit(128 + _signal.SIGKILL))
    _signal.alarm(give_up_s)
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def run(source: bytes, limits: list[str]) -> None:
    """Becomes the program, as `python program.py` would run it, without a second interpreter."""
    with open(PROGRAM, "wb") as file:
        file.write(source)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for limit in limits:
        name, values = limit.split("=")
        which, wanted = getattr(resource, name), [int(value) for value in values.split(":")]
        _, hard = resource.getrlimit(which)
        if hard != resource.RLIM_INFINITY:  # the host may allow less, and no more can be had
            wanted = [min(value, hard) for value in wanted]
        resource.setrlimit(which, (wanted[0], wanted[1]))
    sys.argv, sys.path[0], sys.excepthook = [PROGRAM], os.path.dirname(PROGRAM), report
    module = type(sys)("__main__")
    module.__file__ = PROGRAM
    sys.modules["__main__"] = module
    exec(compile(source, PROGRAM, "exec"), module.__dict__)


def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Prints an uncaught exception without the frames of this file above the program's."""
    while trace is not None and trace.tb_frame.f_code.co_filename == "<string>":
        trace = trace.tb_next
    sys.__excepthook__(kind, error.with_traceback(trace), trace)


if __name__ == "__main__":
    main()
