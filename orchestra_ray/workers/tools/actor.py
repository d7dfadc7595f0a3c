"""The tool roles as Ray actors: executors that run calls, and the books that hold the money.

A rollout worker has a `Pool` over `ActorLine`s. An executor that dies is started again by Ray; its
calls are given out once more, under their own keys. Executors reserve and post in batches; what is
posted is sent until the books have it, or is counted as unposted. A result goes out after that, so
one that a caller has is in the books, however its executor ends. Only books that are slow do not
hold it: it then goes out with its posting still on the way, and a death before that is a call lost.
What cannot be packed for its way fails alone, and the rest of its batch goes on, see `wire`.

An executor that hangs without dying is ended, see `liveness`; the books see to it that it is once.
"""

import asyncio
import gc
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError

from orchestra_ray.config.schema import CassetteConfig
from orchestra_ray.core.bugs import bug
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.memory import peak_mib
from orchestra_ray.core.process_log import ProcessLog, own_log, with_log
from orchestra_ray.core.records import LedgerEntry, Settlement, ToolRequest, ToolResult
from orchestra_ray.core.serialization import pack_items, unpack
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.tasks.private import is_private
from orchestra_ray.spend.accounts import SpendAccounts, StepTotals, call_of
from orchestra_ray.spend.budget import SpendBudget, SpendLimits
from orchestra_ray.spend.client import BatchedSpendClient, SpendUnreachable
from orchestra_ray.spend.ledger import FOLDER, Ledger
from orchestra_ray.tracking.redact import protect_logs
from orchestra_ray.workers.tools.registry import make_tools
from orchestra_ray.workers.tools.replay.cassette import CassetteError, open_cassette
from orchestra_ray.workers.tools.runtime.attempts import Quota
from orchestra_ray.workers.tools.runtime.client import ExecutorLost, Pool, Results, Unsendable
from orchestra_ray.workers.tools.runtime.executor import Executor, Load
from orchestra_ray.workers.tools.runtime.health import ExecutorHealth, PoolState, ToolQueue
from orchestra_ray.workers.tools.runtime.liveness import Incarnations, answer, hangs
from orchestra_ray.workers.tools.runtime.mailbox import Mailbox

Ended = tuple[str, ToolResult | Failure]
OnDeath = Callable[[Failure], object]

SPEND_DEADLINE_S = 30.0
SETTLE_TRIES = 4
REVIVAL_S = 600.0  # of an executor that died, with its tools
POLL_S = 60.0  # after which an exchange without a result comes back empty
POLL_MARGIN_S = 60.0  # beyond that an executor is not heard of any more


_log = logging.getLogger(__name__)


@ray.remote
class Books:
    """One a run. Its methods are short and never wait, so that calls to it are one at a time."""

    def __init__(self, run: str, folder: str | None, limits: SpendLimits):
        ledger = Ledger(run, None if folder is None else Path(folder) / FOLDER)
        budget = SpendBudget(limits)
        budget.go_on_from(*ledger.spent_before())
        self._books = SpendAccounts(budget, ledger)
        self._quotas: dict[str, Quota] = {}
        self._incarnations = Incarnations()
        gc.freeze()  # what is imported stays: to walk it at each collection is most of the work

    def reserve(self, asked: bytes) -> list[str | None]:
        """Of packed `Reservation`s."""
        [reservations] = unpack(asked)
        return self._books.reserve(reservations)

    def post(self, ended: bytes) -> None:
        """Packed `Posting`s, `Lost`s and `Failure`s."""
        [settlements] = unpack(ended)
        self._books.post(settlements)

    def keep_quota(self, executor: str, quota: Quota) -> None:
        """For `share_of`, should the executor have to be started again."""
        self._quotas[executor] = quota

    def share_of(self, executor: str, incarnation: str) -> Quota | None:
        """Asked by an executor that was started again: this life of it is there now."""
        self._incarnations.begin(executor, incarnation)
        return self._quotas.get(executor)

    def end_incarnation(self, executor: Any, incarnation: str) -> None:
        """Kills an executor that hangs, unless that was done before; Ray starts it again."""
        if self._incarnations.end(_name(executor), incarnation):
            _log.warning("executor %s hangs and is ended", _name(executor))
            ray.kill(executor, no_restart=False)

    def close_step(self, step: int) -> StepTotals:
        return self._books.close_step(step)

    def process_log(self) -> ProcessLog:
        return own_log()

    def peak_mib(self) -> Mapping[str, float]:
        return {"books": peak_mib()}


class SpendActorClient(BatchedSpendClient):
    """The books as a process reaches them."""

    def __init__(self, books: Any, count_calls: bool = False):
        super().__init__(_Door(books), count_calls, SPEND_DEADLINE_S, SETTLE_TRIES)


class _Door:
    """The actor's methods without Ray's references."""

    def __init__(self, books: Any):
        self._books = books

    async def reserve(self, asked: bytes) -> list[str | None]:
        return await self._books.reserve.remote(asked)

    async def post(self, ended: bytes) -> None:
        try:
            await self._books.post.remote(ended)
        except ActorDiedError:
            raise SpendUnreachable from None


@ray.remote(max_restarts=-1)
class ToolExecutor:
    """One process of the pool. Without a `share` no tool that has limits runs."""

    def __init__(
        self,
        catalogue: Catalogue,
        books: Any,
        quota: Quota | None,
        count_calls: bool = False,
        cassette: CassetteConfig | None = None,
    ):
        """`cassette` has the path of its file."""
        self._catalogue, self._quota = catalogue, quota
        self._cassette = cassette or CassetteConfig()
        self._keeper = books
        self._incarnation = ray.get_runtime_context().get_worker_id()
        self._books = SpendActorClient(books, count_calls)
        self._making: asyncio.Task[Executor] | None = None
        self._mailboxes: defaultdict[str, Mailbox[Ended]] = defaultdict(Mailbox)
        self._running: set[asyncio.Task[None]] = set()

    async def exchange(self, client: str, requests: bytes) -> bytes:
        """Packed calls in; its life out, packed with the results of those that have ended."""
        received_s = time.monotonic()
        executor = await self._made()
        mailbox = self._mailboxes[client]
        [asked] = unpack(requests)
        for request in asked:
            task = asyncio.create_task(self._run(executor, mailbox, request, received_s))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return _pack_results(await mailbox.take(POLL_S), self._incarnation)

    async def answers(self) -> None:
        """Returns at once, unless something holds up the event loop and with it every call."""

    # What may be asked twice outlives the process: it is asked again of the next one.

    @ray.method(max_task_retries=-1)
    async def ready(self) -> str:
        """Returns when the tools are made; its life."""
        await self._made()
        return self._incarnation

    @ray.method(max_task_retries=-1)
    async def process_log(self) -> ProcessLog:
        return own_log()

    @ray.method(max_task_retries=-1)
    async def load(self) -> Mapping[str, Load]:
        """By tool, of all clients."""
        return (await self._made()).load()

    @ray.method(max_task_retries=-1)
    async def set_quota(self, index: int, executors: int) -> None:
        """Its part of the limits from now on; returns once nothing runs beyond it."""
        executor, quota = await self._made(), (index, executors)
        async with asyncio.timeout(SPEND_DEADLINE_S):
            await self._keeper.keep_quota.remote(_own_id(), quota)
        await executor.set_quota(quota)

    @ray.method(max_task_retries=-1)
    async def drain(self) -> int:
        """Returns once every call that has ended is in the books; how many never came there."""
        return await self._books.drain()

    @ray.method(max_task_retries=-1)
    async def peak_mib(self) -> Mapping[str, float]:
        await self._made()
        return {"tools": peak_mib()}

    async def _made(self) -> Executor:
        if self._making is None:
            self._making = asyncio.create_task(self._make())
        try:
            return await asyncio.shield(self._making)
        except (RayError, TimeoutError):  # the books did not answer; they may next time
            self._making = None
            raise

    async def _make(self) -> Executor:
        """On the loop that its tools live on."""
        quota = self._quota
        restarted = bool(ray.get_runtime_context().was_current_actor_reconstructed)
        if restarted:
            async with asyncio.timeout(SPEND_DEADLINE_S):
                quota = await self._keeper.share_of.remote(_own_id(), self._incarnation) or quota
        tools = make_tools(self._catalogue, self._cassette.mode)
        tape = open_cassette(self._cassette)
        gc.freeze()  # see `Books`
        executor = Executor(self._catalogue, tools, self._books, tape, quota, restarted)
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
        except Exception as error:  # a bug of ours ends one episode, not the executor
            self._books.lost(request)
            message = f"{request.option.identity}: {type(error).__name__}: {error}"
            private = is_private(request.task)
            result = bug(FailureKind.TOOL, "tool executor", error, private, message)
        mailbox.put((call_of(request), result))


def _pack_results(ended: list[Ended], incarnation: str) -> bytes:
    """A result that cannot be sent goes as the failure that it is."""
    packed, bad = pack_items(ended, incarnation)
    if not bad:
        return packed
    for index, why in bad.items():
        message = f"the result cannot be sent ({why})"
        ended[index] = (ended[index][0], Failure(FailureKind.TOOL, "tool executor", message))
    return pack_items(ended, incarnation)[0]


def _own_id() -> str:
    """The same after a restart."""
    return ray.get_runtime_context().get_actor_id() or ""


class ActorExecutorClient:
    """A `Line` to a `ToolExecutor`. `report` is told of each death, with the end of its log."""

    def __init__(
        self,
        actor: Any,
        client: str,
        books: Any,
        report: OnDeath | None = None,
        where: str = "tool executor",
    ):
        self._actor, self._client, self._books = actor, client, books
        self._report, self._where = report, where
        self._log: ProcessLog | None = None  # of the life that was heard last
        self._incarnation: str | None = (
            None  # which was heard last; one never heard may be starting still
        )
        self._silent = False  # an exchange came to nothing, and it did not die

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
                self._log = None if again else self._log  # where a new life writes is asked anew
            return ended
        except (TimeoutError, RayError) as error:
            self._silent = isinstance(error, TimeoutError)
            raise ExecutorLost(self._told(error)) from None

    async def revived(self) -> None:
        try:
            async with asyncio.timeout(REVIVAL_S):
                if self._silent and self._incarnation is not None:
                    await self._end_if_it_hangs(self._incarnation)
                self._incarnation = await self._actor.ready.remote()
        except (TimeoutError, RayError) as error:
            raise ExecutorLost(type(error).__name__) from None

    def _told(self, error: Exception) -> str:
        """The class of the error with what the log says; reported where the process is gone."""
        name, log = type(error).__name__, self._log
        tail, self._log = None if log is None else log.tail(), None
        if isinstance(error, RayActorError) and self._report is not None and log is not None:
            message = f"{name}: process {log.pid} is gone"
            self._report(Failure(FailureKind.INFRASTRUCTURE, self._where, message, log=tail))
        return with_log(name, tail)

    async def _end_if_it_hangs(self, incarnation: str) -> None:
        try:
            if await hangs(lambda: _future(self._actor.answers.remote())):
                ended = self._books.end_incarnation.remote(self._actor, incarnation)
                await answer(_future(ended), SPEND_DEADLINE_S)
        except (TimeoutError, RayError) as error:  # it dies by itself, or the books do not answer
            _log.warning("executor %s is silent: %s", _name(self._actor), type(error).__name__)


def _future(reference: Any) -> asyncio.Future[Any]:
    return asyncio.wrap_future(reference.future())


class ToolPool:
    """What a rollout worker calls: the pool, and the books for what the policy itself costs."""

    def __init__(self, executors: Sequence[Any], books: Any, catalogue: Catalogue, client: str):
        self._books, self._client, self._keeper = SpendActorClient(books), client, books
        self._made = 0
        lines = {_name(actor): self._line(actor) for actor in executors}
        self._pool = Pool(lines, catalogue, self._books)

    async def call(self, request: ToolRequest) -> ToolResult | Failure:
        return await self._pool.call(request)

    def enter(self, entry: LedgerEntry) -> None:
        self._books.enter(Settlement(entry.call_id, entry))

    async def drain(self) -> int:
        """Returns once all that was entered here is in the books; how much never came there."""
        return await self._books.drain()

    def add_executor(self, executor: Any) -> None:
        """Once it has its share, see `reshare`."""
        self._pool.add(_name(executor), self._line(executor))

    async def drain_executor(self, executor: Any, deadline_s: float) -> int:
        """Gives it no more calls; returns as `Pool.drain`. Then it may be ended, by its owner."""
        return await self._pool.drain(_name(executor), deadline_s)

    def _line(self, executor: Any) -> ActorExecutorClient:
        where, self._made = f"tool executor {self._made}", self._made + 1
        return ActorExecutorClient(executor, self._client, self._keeper, self._books.report, where)

    def health(self) -> list[ExecutorHealth]:
        return self._pool.health()

    def queues(self) -> Mapping[str, ToolQueue]:
        return self._pool.queues()

    async def state(self) -> PoolState:
        """On the loop of its calls."""
        return PoolState(self.queues(), self.health())


async def redistribute(executors: Sequence[Any], deadline_s: float) -> None:
    """Divides the limits of the pool among these executors, in the order that its clients have.

    A new one is the last, is made without a share, and gets its part when the others keep to less.
    One that goes has ended before: only then may the others have its part.
    """
    async with asyncio.timeout(deadline_s):
        for index, executor in enumerate(executors):
            await executor.set_quota.remote(index, len(executors))


def _name(executor: Any) -> str:
    return executor._actor_id.hex()
