"""Unexpected exceptions as values: a traceback in the log of this process, and a `Failure`."""

import logging
import traceback

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.process_log import path_of_own_log

_log = logging.getLogger(__name__)


def is_bug(error: BaseException) -> bool:
    """Whether an unexpected exception would be raised again.

    What the system refuses may pass, and what Ray raises tells of a process or an object lost.
    """
    from_ray = any(cls.__module__.partition(".")[0] == "ray" for cls in type(error).__mro__)
    return not from_ray and not isinstance(error, OSError | MemoryError)


def bug(
    kind: FailureKind, where: str, error: Exception, private: bool, message: str | None = None
) -> Failure:
    """The failure of an unexpected exception. message: in place of its class and its text.

    private: its text may quote a private task, and the log tells only where it was raised.
    """
    name = type(error).__name__
    if private:
        stack = "".join(traceback.format_tb(error.__traceback__))
        _log.error("%s: %s\n%s", where, name, stack)
    else:
        _log.error("%s", where, exc_info=error)
    said = f"{name}: {error}" if message is None else message
    return Failure(kind, where, said, is_bug(error), path_of_own_log())
