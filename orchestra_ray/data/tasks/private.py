"""Private tasks: whose questions and answers no file of a run may hold.

Benchmarks such as HLE ask that none of their rows is ever published, and mark them with a canary
string. Their tasks carry the mark below, and whoever writes to a file or a log asks for it first;
a task's id may be written.
"""

import re
from dataclasses import replace

from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import Task

PRIVATE = "private"


def is_private(task: Task) -> bool:
    return bool(task.payload.get(PRIVATE))


def told(failure: Failure, task: Task) -> Failure:
    """What may be written of it: a message may quote the task, so of a private one its kind."""
    return wordless(failure) if is_private(task) else failure


def wordless(failure: Failure) -> Failure:
    """Its kind, the class of its exception if it names one, and the path of the log."""
    named = _EXCEPTION.search(failure.message)
    message = f"{failure.kind.value}: {named.group(1)}" if named else failure.kind.value
    log = None if failure.log is None else failure.log.without_words()
    return replace(failure, message=message, log=log)


# At the head of a message; a class in the middle of it may be a word of the task.
_EXCEPTION = re.compile(r"^(?:[\w./#-]+: )?((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception))\b")
