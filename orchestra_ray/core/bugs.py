"""Turns unexpected exceptions into a traceback in this process's log and a `Failure`."""

import logging
import traceback

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.process_log import path_of_own_log

_log = logging.getLogger(__name__)


def is_bug(error: BaseException) -> bool:
    """Returns whether an unexpected exception would be raised again by the same input.

    Errors of the operating system may be transient, and Ray's tell of a lost process or object.
    """
    from_ray = any(cls.__module__.partition(".")[0] == "ray" for cls in type(error).__mro__)
    return not from_ray and not isinstance(error, OSError | MemoryError)


def bug(
    kind: FailureKind, where: str, error: Exception, private: bool, message: str | None = None
) -> Failure:
    """Logs an unexpected exception and returns it as a `Failure`.

    message: replaces the exception's class and text. private: the text may quote a private task, so
    the log gets the class and the stack only.
    """
    name = type(error).__name__
    if private:
        stack = "".join(traceback.format_tb(error.__traceback__))
        _log.error("%s: %s\n%s", where, name, stack)
    else:
        _log.error("%s", where, exc_info=error)
    text = f"{name}: {error}" if message is None else message
    return Failure(kind, where, text, is_bug(error), path_of_own_log())
