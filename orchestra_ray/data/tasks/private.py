"""Private tasks, whose questions and answers must not occur in any file of a run.

Benchmarks such as HLE ask that none of their rows is ever published, and mark them with a canary
string. Their tasks have the mark `PRIVATE`, which all writers to files and logs check first; a
task's id may be written.
"""

import re
from dataclasses import replace

from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import Task

PRIVATE = "private"


def is_private(task: Task) -> bool:
    return bool(task.payload.get(PRIVATE))


def redact_private(failure: Failure, task: Task) -> Failure:
    """Returns the failure, redacted if the task is private, because messages may quote the task."""
    return redact(failure) if is_private(task) else failure


def redact(failure: Failure) -> Failure:
    """Returns the failure reduced to its kind, its exception's class, and the path of its log."""
    named = _EXCEPTION.search(failure.message)
    message = f"{failure.kind.value}: {named.group(1)}" if named else failure.kind.value
    log = None if failure.log is None else failure.log.redacted()
    return replace(failure, message=message, log=log)


# Only at the start of a message: elsewhere a class name may be part of the task.
_EXCEPTION = re.compile(r"^(?:[\w./#-]+: )?((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception))\b")
