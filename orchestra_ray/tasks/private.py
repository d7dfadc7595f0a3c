"""Private tasks: whose questions and answers no file of a run may hold.

Benchmarks such as HLE ask that none of their rows is ever published, and mark them with a canary
string. Their tasks carry the mark below, and whoever writes to a file or a log asks for it first;
a task's id may be written.
"""

from dataclasses import replace

from orchestra_ray.core.records import Task
from orchestra_ray.core.states import Failure

PRIVATE = "private"


def is_private(task: Task) -> bool:
    return bool(task.payload.get(PRIVATE))


def told(failure: Failure, task: Task) -> Failure:
    """What may be written of it: a message may quote the task, so of a private one its kind."""
    return replace(failure, message=failure.kind.value) if is_private(task) else failure
