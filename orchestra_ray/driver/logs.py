"""The logs of a run's actors, so that a dead one tells why it died.

Each actor says where it writes while it lives; its log is read here once it has failed. Of a run on
private tasks no line of a log is kept, since it may quote them: only its path, and the class of the
last error.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from ray.exceptions import RayActorError, RayError, RayTaskError

from orchestra_ray.core.bugs import is_bug
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.process_log import LogTail, ProcessLog, without_reason
from orchestra_ray.data.tasks.private import wordless


class ActorLogs:
    """By the names that events give to the actors."""

    def __init__(self, private: bool):
        self._private = private
        self._logs: dict[str, ProcessLog] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def ask(self, where: str, actor: Any) -> None:
        """Has the actor say where it writes. Raises what the call raises."""
        self._logs[where] = await actor.process_log.remote()

    def ask_again(self, where: str, actor: Any, deadline_s: float) -> None:
        """In the background, of an actor that Ray starts again: it then writes elsewhere."""
        task = asyncio.get_running_loop().create_task(self._ask_within(where, actor, deadline_s))
        self._asking.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._asking.discard)

    def tail(self, where: str, error: BaseException | None = None) -> LogTail | None:
        """Of the actor at `where`, or of the process below it that the error of its code names.

        The last error in the log is the reason only where the actor could not tell one itself.
        """
        own = getattr(_cause(error), "log", None)
        if isinstance(own, LogTail):
            return own.without_words() if self._private else own
        known = self._logs.get(where)
        tail = None if known is None else known.tail()
        if not isinstance(error, RayActorError):
            tail = without_reason(tail)
        return tail.without_words() if tail is not None and self._private else tail

    def failure(
        self, kind: FailureKind, where: str, message: str, error: BaseException | None = None
    ) -> Failure:
        """The failure of an actor, with its log."""
        return Failure(kind, where, message, is_permanent(error), self.tail(where, error))

    def told(self, failure: Failure) -> Failure:
        """What may be written of a failure that no task is known of."""
        return wordless(failure) if self._private and failure.log is not None else failure

    async def _ask_within(self, where: str, actor: Any, deadline_s: float) -> None:
        try:
            async with asyncio.timeout(deadline_s):
                await self.ask(where, actor)
        except (TimeoutError, RayError):
            self._logs.pop(where, None)


def is_permanent(error: BaseException | None) -> bool:
    """Whether an actor's code has a bug: an exception that neither a death nor a part explains."""
    cause = _cause(error)
    if cause is None or not isinstance(error, RayTaskError):
        return False
    return not hasattr(cause, "log") and is_bug(cause)


def log_fields(log: LogTail | None) -> Mapping[str, Any]:
    """Of an event: the path of the log, its last lines, and the last error among them."""
    if log is None:
        return {}
    found = {"log": log.path, "last_lines": list(log.lines), "reason": log.reason}
    return {name: value for name, value in found.items() if value}


def failure_fields(failure: Failure) -> Mapping[str, Any]:
    """Of an event: what is known of a failure."""
    return {
        "failure": failure.kind.value,
        "where": failure.where,
        "message": failure.message,
        **({"permanent": True} if failure.permanent else {}),
        **log_fields(failure.log),
    }


def _cause(error: BaseException | None) -> BaseException | None:
    """The exception of the actor's own code, where there is one."""
    if not isinstance(error, RayTaskError):
        return error
    return error.cause if isinstance(error.cause, BaseException) else None
