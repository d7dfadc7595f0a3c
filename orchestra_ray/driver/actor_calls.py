"""How the driver calls actors: each call has a deadline, and an error is reported in one line.

`Handle` is the type of any actor's handle, for code that calls what all actors have.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeAlias, TypeVar, cast

import ray
from ray.actor import ActorHandle, ActorProxy
from ray.exceptions import RayError

from orchestra_ray.core.errors import ReportedError
from orchestra_ray.core.process_log import LogTail, with_log
from orchestra_ray.driver.logs import ActorLogs
from orchestra_ray.spend.actor import SpendActor
from orchestra_ray.weights.actor import WeightRegistry
from orchestra_ray.workers.reward.actor import RewardScorer
from orchestra_ray.workers.rollout.actor import RolloutWorker
from orchestra_ray.workers.tools.actor import ToolExecutor

T = TypeVar("T")
Handle: TypeAlias = (
    ActorProxy[RolloutWorker]
    | ActorProxy[ToolExecutor]
    | ActorProxy[RewardScorer]
    | ActorProxy[SpendActor]
)


class RunFailed(ReportedError):
    """The run cannot continue; the message is one line. `log`: of the process that failed."""

    def __init__(self, message: str, log: LogTail | None = None):
        super().__init__(with_log(message, log))
        self.log = log


async def within(
    deadline_s: float, what: str, awaitable: Awaitable[T], logs: ActorLogs | None = None
) -> T:
    """Awaits a Ray reference; raises `RunFailed` past the deadline or if the actor fails.

    logs: to read the log of the actor with the name `what`.
    """
    try:
        async with asyncio.timeout(deadline_s):
            return await awaitable
    except TimeoutError:
        message, cause = f"{what}: no answer within {deadline_s:g} s", None
    except RayError as error:
        message, cause = f"{what}: {one_line(error)}", error
    raise RunFailed(message, None if logs is None else logs.tail(what, cause)) from cause


def one_line(error: RayError) -> str:
    """Returns the last line, where Ray repeats the error below the actor's traceback."""
    lines = str(error).strip().splitlines() or [""]
    reason, _, _ = lines[-1].partition(" Some common causes include")  # of any death
    return f"{type(error).__name__}: {reason}"


def kill(actor: Handle | ActorProxy[WeightRegistry]) -> None:
    ray.kill(cast(ActorHandle, actor))
