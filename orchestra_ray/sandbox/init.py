"""The first process inside a sandbox: takes one program from stdin, runs it under limits, reaps.

It stands in the sandbox as `sitecustomize`, which an interpreter imports just before it opens its
program. The interpreter is started with PROGRAM, a file that is not there yet. As process 1 it
forks here: the child writes the file, takes on the limits and returns, so that what follows is
exactly `python program.py`; process 1 never returns. It imports nothing of this package.

Being process 1 of its PID namespace it takes the whole namespace with it: what the program left
running is killed by the kernel before this process counts as ended. How the program ended is
written to a pipe of its own, as the status of wait(2), since an exit code alone cannot tell
`sys.exit(137)` from SIGKILL. Limits hold for the program only, soft ones and hard ones, and are
set here, inside the user namespace, since processes are counted in the namespace of their limit.

Arguments after PROGRAM: the seconds after which process 1 gives up by itself, `NAME=soft:hard` for
each limit, and the descriptor of the pipe.
"""

# `signal` itself loads enum, a fifth of what a whole run costs.
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
    """Collects every orphan. The alarm is for a host that died in an unlucky moment."""

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
    """Makes this process the one that the program is to run in."""
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


if __name__ == "sitecustomize" and os.getpid() == 1:
    try:
        main()
    except BaseException as error:  # `site` would go on, and run the program without limits
        sys.excepthook(type(error), error, error.__traceback__)
        os._exit(1)
