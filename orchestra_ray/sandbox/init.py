"""The first process in a sandbox: runs one program from stdin under limits and reaps orphans.

The module is installed in the sandbox as `sitecustomize`, which an interpreter imports before it
opens its program. The interpreter is started with PROGRAM, a file that does not exist yet. Process
1 forks here: the child writes the file, sets the limits and returns, so that the interpreter
continues exactly as `python program.py`; process 1 never returns. The module imports nothing of
this package.

As process 1 of its PID namespace it ends the whole namespace: the kernel kills the remaining
processes before process 1 counts as ended. The program's exit is written to a separate pipe as a
wait(2) status, since an exit code cannot distinguish `sys.exit(137)` from SIGKILL. The limits apply
only to the program. They are set here, inside the user namespace, since Linux counts processes in
the namespace in which the limit was set.

Arguments after PROGRAM: the seconds after which process 1 gives up by itself, `NAME=soft:hard` for
each limit, and the descriptor of the pipe.
"""

# `signal` imports enum, which takes a fifth of the time of a whole run.
import _signal  # pyright: ignore[reportMissingImports]
import os
import resource
import sys

PROGRAM = "/tmp/program.py"


def main() -> None:
    give_up_s, *limits, report = sys.argv[1:]
    del sys.argv[1:], sys.orig_argv[2:]
    source = sys.stdin.buffer.read()
    child = os.fork()
    if child == 0:
        prepare(source, limits)
    else:
        reap_until(child, int(give_up_s), int(report))


def reap_until(child: int, give_up_s: int, report: int) -> None:
    """Reaps processes until `child` ends. The alarm covers a host process that died unnoticed."""

    def end(status: int) -> None:
        os.write(report, b'{"status": %d}\n' % status)
        os._exit(0)

    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
    _signal.signal(_signal.SIGALRM, lambda *_: end(_signal.SIGKILL))
    _signal.alarm(give_up_s)
    while True:
        pid, status = os.wait()
        if pid == child:
            end(status)


def prepare(source: bytes, limits: list[str]) -> None:
    """Writes the program, closes all descriptors and sets the limits of this process."""
    with open(PROGRAM, "wb") as file:
        file.write(source)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    for limit in limits:
        name, values = limit.split("=")
        which, wanted = getattr(resource, name), [int(value) for value in values.split(":")]
        _, hard = resource.getrlimit(which)
        if hard != resource.RLIM_INFINITY:  # the host's limit may be lower, and cannot be raised
            wanted = [min(value, hard) for value in wanted]
        resource.setrlimit(which, (wanted[0], wanted[1]))


if __name__ == "sitecustomize" and os.getpid() == 1:
    try:
        main()
    except BaseException as error:  # `site` would continue and run the program without limits
        sys.excepthook(type(error), error, error.__traceback__)
        os._exit(1)
