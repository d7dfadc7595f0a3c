"""The logs of a run's actors, so that a failure can quote the last lines of its process's log.

Each actor reports the paths of its log when it has started; the log is read once the actor has
failed. In a run on private tasks, only the path and the class of the last error are kept, since
lines may quote tasks.
"""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError

from orchestra_ray.core.bugs import is_bug
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.process_log import LogTail, ProcessLog, without_reason
from orchestra_ray.data.tasks.private import redact


class ActorLogs:
    """Logs by the name of the actor in events."""

    def __init__(self, private: bool):
        self._private = private
        self._logs: dict[str, ProcessLog] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def ask(self, where: str, asked: Awaitable[ProcessLog]) -> None:
        """Keeps what the actor answers of its log. Raises the errors of the call."""
        self._logs[where] = await asked

    def ask_again(self, where: str, asked: Awaitable[ProcessLog], deadline_s: float) -> None:
        """Waits in the background for an actor that Ray restarts: its log has a new path."""
        task = asyncio.get_running_loop().create_task(self._ask_within(where, asked, deadline_s))
        self._asking.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._asking.discard)

    def tail(self, where: str, error: BaseException | None = None) -> LogTail | None:
        """Returns the end of the log of the actor, or of the child process that `error` names.

        The last error in the log counts as the reason only if the actor itself died.
        """
        own = getattr(_cause(error), "log", None)
        if isinstance(own, LogTail):
            return own.redacted() if self._private else own
        known = self._logs.get(where)
        tail = None if known is None else known.tail()
        if not isinstance(error, RayActorError):
            tail = without_reason(tail)
        return tail.redacted() if tail is not None and self._private else tail

    def failure(
        self, kind: FailureKind, where: str, message: str, error: BaseException | None = None
    ) -> Failure:
        """Returns the failure of an actor, with the end of its log."""
        return Failure(kind, where, message, is_permanent(error), self.tail(where, error))

    def redacted(self, failure: Failure) -> Failure:
        """Returns a failure of no known task as it may be written."""
        return redact(failure) if self._private and failure.log is not None else failure

    async def _ask_within(
        self, where: str, asked: Awaitable[ProcessLog], deadline_s: float
    ) -> None:
        try:
            async with asyncio.timeout(deadline_s):
                await self.ask(where, asked)
        except (TimeoutError, RayError):
            self._logs.pop(where, None)


def is_permanent(error: BaseException | None) -> bool:
    """Returns whether the error is a bug of the actor's code, not a death or a failed child."""
    cause = _cause(error)
    if cause is None or not isinstance(error, RayTaskError):
        return False
    return not hasattr(cause, "log") and is_bug(cause)


def log_fields(log: LogTail | None) -> Mapping[str, Any]:
    """Returns a log's fields of an event: its path, its last lines and its last error."""
    if log is None:
        return {}
    found = {"log": log.path, "last_lines": list(log.lines), "reason": log.reason}
    return {name: value for name, value in found.items() if value}


def failure_fields(failure: Failure) -> Mapping[str, Any]:
    """Returns the fields of an event on a failure."""
    return {
        "failure": failure.kind.value,
        "where": failure.where,
        "message": failure.message,
        **({"permanent": True} if failure.permanent else {}),
        **log_fields(failure.log),
    }


def _cause(error: BaseException | None) -> BaseException | None:
    """Returns the exception of the actor's own code, if there is one."""
    if not isinstance(error, RayTaskError):
        return error
    return error.cause if isinstance(error.cause, BaseException) else None
