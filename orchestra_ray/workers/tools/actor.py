"""Tool executors as Ray actors, and the pool through which a rollout worker calls them.

A rollout worker has a `Pool` over `ActorExecutorClient`s. A dead executor is restarted by Ray; its
calls are sent again to another one, with new reservation keys. Executors reserve and settle in
batches; a settlement is resent until the spend actor confirms it, or is counted in `unsettled`.

A result is returned after its settlement is confirmed, so a dying executor loses none that a caller
has. If the spend actor is slow, the result is returned first; if the executor then dies before the
settlement arrives, the call is entered as lost, at its maximum cost. An item that cannot be
serialized does not affect the rest of its batch, see `core.serialization`.

An executor that hangs without dying is killed, see `runtime.liveness`; the spend actor ensures that
this happens once per incarnation.
"""

import asyncio
import gc
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import ray
from ray import ObjectRef
from ray.actor import ActorProxy
from ray.exceptions import RayActorError, RayError

from orchestra_ray.config.schema import CassetteConfig
from orchestra_ray.core.bugs import bug
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.memory import peak_mib
from orchestra_ray.core.process_log import ProcessLog, own_log, with_log
from orchestra_ray.core.records import LedgerEntry, Settlement, ToolRequest, ToolResult
from orchestra_ray.core.serialization import pack_items, unpack
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.private import is_private
from orchestra_ray.spend.accounts import call_of
from orchestra_ray.spend.actor import SPEND_DEADLINE_S, SpendActor, SpendActorClient, actor_id
from orchestra_ray.tracking.redact import protect_logs
from orchestra_ray.workers.tools.registry import make_tools
from orchestra_ray.workers.tools.replay.cassette import CassetteError, open_cassette
from orchestra_ray.workers.tools.runtime.attempts import Quota
from orchestra_ray.workers.tools.runtime.client import ExecutorLost, Pool, Results, Unsendable
from orchestra_ray.workers.tools.runtime.executor import Executor, Load
from orchestra_ray.workers.tools.runtime.health import ExecutorHealth, PoolState, ToolQueue
from orchestra_ray.workers.tools.runtime.liveness import answer, hangs
from orchestra_ray.workers.tools.runtime.mailbox import Mailbox

Ended = tuple[str, ToolResult | Failure]
T = TypeVar("T")
OnDeath = Callable[[Failure], object]

REVIVAL_S = 600.0  # for the restart of an executor, with its tools
POLL_S = 60.0  # after which an exchange without a result returns empty
POLL_MARGIN_S = 60.0  # beyond `POLL_S`, after which an executor counts as silent

_log = logging.getLogger(__name__)


class ToolExecutor:
    """One process of the pool. Without a quota no tool that has limits runs."""

    def __init__(
        self,
        catalogue: Catalogue,
        spend: ActorProxy[SpendActor],
        quota: Quota | None,
        count_calls: bool = False,
        cassette: CassetteConfig | None = None,
    ):
        """cassette: with the path of its file."""
        self._catalogue, self._quota = catalogue, quota
        self._cassette = cassette or CassetteConfig()
        self._spend_actor = spend
        self._incarnation = ray.get_runtime_context().get_worker_id()
        self._spend = SpendActorClient(spend, count_calls)
        self._making: asyncio.Task[Executor] | None = None
        self._mailboxes: defaultdict[str, Mailbox[Ended]] = defaultdict(Mailbox)
        self._running: set[asyncio.Task[None]] = set()

    @ray.method
    async def exchange(self, client: str, requests: bytes) -> bytes:
        """Takes packed calls; returns the incarnation, packed with the results of ended calls."""
        received_s = time.monotonic()
        executor = await self._made()
        mailbox = self._mailboxes[client]
        [asked] = unpack(requests)
        for request in asked:
            task = asyncio.create_task(self._run(executor, mailbox, request, received_s))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return _pack_results(await mailbox.take(POLL_S), self._incarnation)

    @ray.method
    async def answers(self) -> None:
        """Returns at once, unless the event loop is blocked, and with it every call."""

    # Idempotent methods are retried at the next incarnation if the process dies.

    @ray.method(max_task_retries=-1)
    async def ready(self) -> str:
        """Returns the incarnation when the tools are made."""
        await self._made()
        return self._incarnation

    @ray.method(max_task_retries=-1)
    async def process_log(self) -> ProcessLog:
        return own_log()

    @ray.method(max_task_retries=-1)
    async def load(self) -> Mapping[str, Load]:
        """Returns the load of each tool, over all clients."""
        return (await self._made()).load()

    @ray.method(max_task_retries=-1)
    async def set_quota(self, index: int, executors: int) -> None:
        """Sets this executor's part of the limits; returns when no tool exceeds it."""
        executor, quota = await self._made(), (index, executors)
        async with asyncio.timeout(SPEND_DEADLINE_S):
            await self._spend_actor.keep_quota.remote(_own_id(), quota)
        await executor.set_quota(quota)

    @ray.method(max_task_retries=-1)
    async def drain(self) -> int:
        """Waits until every ended call is settled; returns how many could not be."""
        return await self._spend.drain()

    @ray.method(max_task_retries=-1)
    async def peak_mib(self) -> Mapping[str, float]:
        await self._made()
        return {"tools": peak_mib()}

    async def _made(self) -> Executor:
        if self._making is None:
            self._making = asyncio.create_task(self._make())
        try:
            return await asyncio.shield(self._making)
        except (RayError, TimeoutError):  # the spend actor did not answer; the next try may succeed
            self._making = None
            raise

    async def _make(self) -> Executor:
        """Makes the executor, on the event loop of its tools."""
        quota = self._quota
        restarted = bool(ray.get_runtime_context().was_current_actor_reconstructed)
        if restarted:
            async with asyncio.timeout(SPEND_DEADLINE_S):
                quota = (
                    await self._spend_actor.quota_of.remote(_own_id(), self._incarnation) or quota
                )
        tools = make_tools(self._catalogue, self._cassette.mode)
        tape = open_cassette(self._cassette)
        gc.freeze()  # see `SpendActor`
        executor = Executor(self._catalogue, tools, self._spend, tape, quota, restarted)
        protect_logs(executor.redactor)
        return executor

    async def _run(
        self, executor: Executor, mailbox: Mailbox[Ended], request: ToolRequest, received_s: float
    ) -> None:
        result: ToolResult | Failure
        try:
            result = await executor.execute(request, time.monotonic() - received_s)
        except CassetteError as error:
            result = Failure(FailureKind.TOOL, "cassette", str(error))
        except Exception as error:  # a bug of the executor ends one episode, not the process
            self._spend.lost(request)
            message = f"{request.option.identity}: {type(error).__name__}: {error}"
            private = is_private(request.task)
            result = bug(FailureKind.TOOL, "tool executor", error, private, message)
        mailbox.put((call_of(request), result))


RemoteToolExecutor = ray.remote(max_restarts=-1)(ToolExecutor)


def _pack_results(ended: list[Ended], incarnation: str) -> bytes:
    """Packs the results; one that cannot be packed becomes a failure."""
    packed, bad = pack_items(ended, incarnation)
    if not bad:
        return packed
    for index, why in bad.items():
        message = f"the result cannot be sent ({why})"
        ended[index] = (ended[index][0], Failure(FailureKind.TOOL, "tool executor", message))
    return pack_items(ended, incarnation)[0]


def _own_id() -> str:
    """Returns the actor's id, which is the same after a restart."""
    return ray.get_runtime_context().get_actor_id() or ""


class ActorExecutorClient:
    """The `ExecutorClient` of a `ToolExecutor`; calls `report` at each death."""

    def __init__(
        self,
        actor: ActorProxy[ToolExecutor],
        client: str,
        spend: ActorProxy[SpendActor],
        report: OnDeath | None = None,
        where: str = "tool executor",
    ):
        self._actor, self._client, self._spend = actor, client, spend
        self._report, self._where = report, where
        self._log: ProcessLog | None = None  # of the incarnation that answered last
        self._incarnation: str | None = None  # that answered last; None: it may still be starting
        self._silent = False  # an exchange timed out without a death

    async def exchange(self, requests: Sequence[ToolRequest]) -> Results:
        packed, bad = pack_items(requests)
        if bad:
            raise Unsendable({call_of(requests[index]): why for index, why in bad.items()})
        try:
            if self._log is None:
                where = _future(self._actor.process_log.remote())
                self._log = await answer(where, POLL_MARGIN_S)
            asked = self._actor.exchange.remote(self._client, packed)
            incarnation, ended = unpack(await answer(_future(asked), POLL_S + POLL_MARGIN_S))
            if incarnation != self._incarnation:
                again, self._incarnation = self._incarnation is not None, incarnation
                self._log = None if again else self._log  # each incarnation has its own log
            return ended
        except (TimeoutError, RayError) as error:
            self._silent = isinstance(error, TimeoutError)
            raise ExecutorLost(self._reason(error)) from None

    async def revived(self) -> None:
        try:
            async with asyncio.timeout(REVIVAL_S):
                if self._silent and self._incarnation is not None:
                    await self._kill_if_hanging(self._incarnation)
                self._incarnation = await self._actor.ready.remote()
        except (TimeoutError, RayError) as error:
            raise ExecutorLost(type(error).__name__) from None

    def _reason(self, error: Exception) -> str:
        """Returns the class of the error with the log's end; reports it if the process is dead."""
        name, log = type(error).__name__, self._log
        tail, self._log = None if log is None else log.tail(), None
        if isinstance(error, RayActorError) and self._report is not None and log is not None:
            message = f"{name}: process {log.pid} is gone"
            self._report(Failure(FailureKind.INFRASTRUCTURE, self._where, message, log=tail))
        return with_log(name, tail)

    async def _kill_if_hanging(self, incarnation: str) -> None:
        try:
            if await hangs(lambda: _future(self._actor.answers.remote())):
                ended = self._spend.end_incarnation.remote(self._actor, incarnation)
                await answer(_future(ended), SPEND_DEADLINE_S)
        except (TimeoutError, RayError) as error:  # it died, or the spend actor does not answer
            _log.warning("executor %s is silent: %s", actor_id(self._actor), type(error).__name__)


def _future(reference: "ObjectRef[T]") -> asyncio.Future[T]:
    return asyncio.wrap_future(reference.future())


class ToolPool:
    """The pool of a rollout worker, with a client of the spend actor for the policy's own cost."""

    def __init__(
        self,
        executors: Sequence[ActorProxy[ToolExecutor]],
        spend: ActorProxy[SpendActor],
        catalogue: Catalogue,
        client: str,
    ):
        self._spend, self._client, self._spend_actor = SpendActorClient(spend), client, spend
        self._made = 0
        clients = {actor_id(actor): self._client_of(actor) for actor in executors}
        self._pool = Pool(clients, catalogue, self._spend)

    async def call(self, request: ToolRequest) -> ToolResult | Failure:
        return await self._pool.call(request)

    def enter(self, entry: LedgerEntry) -> None:
        self._spend.enter(Settlement(entry.call_id, entry))

    async def drain(self) -> int:
        """Waits until all entries are settled; returns how many could not be."""
        return await self._spend.drain()

    def add_executor(self, executor: ActorProxy[ToolExecutor]) -> None:
        """Adds an executor that has its quota, see `redistribute`."""
        self._pool.add(actor_id(executor), self._client_of(executor))

    async def drain_executor(self, executor: ActorProxy[ToolExecutor], deadline_s: float) -> int:
        """Drains an executor, see `Pool.drain`; afterwards its owner may kill it."""
        return await self._pool.drain(actor_id(executor), deadline_s)

    def _client_of(self, executor: ActorProxy[ToolExecutor]) -> ActorExecutorClient:
        where, self._made = f"tool executor {self._made}", self._made + 1
        return ActorExecutorClient(
            executor, self._client, self._spend_actor, self._spend.report, where
        )

    def health(self) -> list[ExecutorHealth]:
        return self._pool.health()

    def queues(self) -> Mapping[str, ToolQueue]:
        return self._pool.queues()

    async def state(self) -> PoolState:
        """Returns the state; runs on the event loop of the calls."""
        return PoolState(self.queues(), self.health())


async def redistribute(executors: Sequence[ActorProxy[ToolExecutor]], deadline_s: float) -> None:
    """Divides the limits of the pool among the executors, in the order of its clients.

    A new executor is the last, is made without a quota, and gets one when the others have reduced
    theirs. A removed one must have ended before, so that the others can take over its quota.
    """
    async with asyncio.timeout(deadline_s):
        for index, executor in enumerate(executors):
            await executor.set_quota.remote(index, len(executors))
