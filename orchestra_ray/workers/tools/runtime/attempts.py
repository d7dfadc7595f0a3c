"""The attempts of one tool call: limits, circuit breaker, hedging, retries, and their bill.

Each attempt is reserved against the spend budget before it is made, under a key of its own. It is
charged as its provider bills it: by the usage that came back; nothing if the request was rejected
or never sent; and the maximum if the outcome is unknown, as after a timeout or a bug. An attempt
that was cancelled before its reservation was granted was never made and is not billed: the spend
accounts release it. A free attempt is released with the next reservation, so that it does not
cause a retry to be refused.

An attempt of a recipe also counts towards the limits of its parts: it enters the limiters of the
recipe, of its model and of the tool that it runs, and leaves them at its end. The order is the same
for all recipes, and parts have no parts, so there is no deadlock.
"""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field

from orchestra_ray.core.faults import MAY_HAVE_ACTED, Fault, FaultKind
from orchestra_ray.core.money import Prices, Usage, sum_of_usage
from orchestra_ray.core.records import Reservation, ToolOption, ToolRequest
from orchestra_ray.data.catalogue import Entry, model_of
from orchestra_ray.spend.accounts import call_of
from orchestra_ray.spend.budget import most_cost_nanousd
from orchestra_ray.spend.client import BudgetClient
from orchestra_ray.workers.tools.base import Reply, Tool
from orchestra_ray.workers.tools.runtime.circuit_breaker import CircuitBreaker
from orchestra_ray.workers.tools.runtime.limiter import Limiter

RETRY_FIRST_S, RETRY_MOST_S = 0.25, 10.0
NOTHING_SENT = Usage(billed_s=0.0)  # of a call none of whose attempts was sent

Quota = tuple[int, int]  # (index, executors): an executor's part of the pool's limits


@dataclass(slots=True)
class Bill:
    """The sum over the attempts of one call.

    usage: as reported; an attempt with unknown outcome reports none. queue_s: time at the limiters
    and for the reservation. charges: (key, charged) of each, without settled free attempts.
    """

    usage: Usage = Usage()
    charged_nanousd: int = 0
    service_s: float = 0.0
    queue_s: float = 0.0
    attempts: int = 0
    unsent: int = 0  # attempts whose request was not sent
    hedges: int = 0
    charges: list[tuple[str, int]] = field(default_factory=list)

    @property
    def recorded(self) -> Usage:
        """The usage as recorded in a cassette, from which a replay computes the cost."""
        return NOTHING_SENT if 0 < self.attempts == self.unsent else self.usage

    def take_free(self) -> tuple[str, ...]:
        """Removes and returns the keys of free attempts, to settle with the next reservation."""
        free = tuple(key for key, charged_nanousd in self.charges if charged_nanousd == 0)
        self.charges = [one for one in self.charges if one[1] != 0]
        return free

    def add(self, usage: Usage, service_s: float) -> None:
        """Adds an attempt, with its reported usage and its time."""
        billed_s = None
        if (self.usage.billed_s, usage.billed_s) != (None, None):
            before_s = self.service_s if self.usage.billed_s is None else self.usage.billed_s
            billed_s = before_s + (service_s if usage.billed_s is None else usage.billed_s)
        self.usage = sum_of_usage(self.usage, usage, billed_s)
        self.service_s += service_s


class Service:
    """A tool with its limiter and circuit breakers, within this executor's `quota` of the limits.

    services: the parts of a recipe by name. A recipe has one circuit breaker per model.
    restarted: the previous process may have started a call just before, which counts for the rate.
    """

    def __init__(
        self,
        entry: Entry,
        tool: Tool,
        quota: Quota | None = (0, 1),
        services: "Mapping[str, Service] | None" = None,
        restarted: bool = False,
    ):
        self.entry, self.tool, self.limiter = entry, tool, Limiter()
        self._services = {} if services is None else services
        # by `model_of` the option
        self._breakers: defaultdict[str, CircuitBreaker] = defaultdict(CircuitBreaker)
        if restarted:
            self.limiter.count_start()
        self.set_quota(quota)

    def set_quota(self, quota: Quota | None) -> None:
        """Sets this executor's quota of the limits; with None, a limited tool is not called."""
        most, per_s = self.entry.limits.concurrency, self.entry.limits.calls_per_s
        if quota is None:
            self.limiter.limit(None if most is None and per_s is None else 0, None)
            return
        index, executors = quota
        sharers = executors if most is None else min(executors, most)
        self.limiter.limit(
            None if most is None else quota_of(most, index, executors),
            None if per_s is None else per_s / sharers,
        )

    async def call(self, request: ToolRequest, budget: BudgetClient, bill: Bill) -> Reply:
        """Returns the first reply of an attempt; raises the last attempt's `Fault`.

        If the pause before a retry would outlast the call's deadline, the fault is raised at once.
        """
        ends_s = time.monotonic() + self.entry.limits.deadline_s
        for retries in range(self.entry.limits.retries):
            try:
                return await self._hedged(request, budget, bill)
            except Fault as fault:
                pause_s = _pause_s(fault, retries)
                if (
                    not self._may_try_again(fault, request.option)
                    or time.monotonic() + pause_s >= ends_s
                ):
                    raise
                await asyncio.sleep(pause_s)
        return await self._hedged(request, budget, bill)

    def _limiter_of(self, part: str) -> AbstractAsyncContextManager[None]:
        service = self._services.get(part)
        return nullcontext() if service is None else service.limiter

    def _may_try_again(self, fault: Fault, option: ToolOption) -> bool:
        return fault.kind.retryable and (
            not fault.may_have_acted or self.entry.may_repeat(option.prices)
        )

    async def _hedged(self, request: ToolRequest, budget: BudgetClient, bill: Bill) -> Reply:
        hedge_after_s = self.entry.limits.hedge_after_s
        if hedge_after_s is None:
            return await self._attempt(request, budget, bill)
        racing: set[asyncio.Future[Reply]] = {
            asyncio.ensure_future(self._attempt(request, budget, bill))
        }
        try:
            done, _ = await asyncio.wait(racing, timeout=hedge_after_s)
            if not done:
                bill.hedges += 1
                racing.add(asyncio.ensure_future(self._attempt(request, budget, bill)))
            return await _first_success(racing)
        finally:
            for attempt in racing:
                attempt.cancel()
            await asyncio.gather(*racing, return_exceptions=True)

    async def _attempt(self, request: ToolRequest, budget: BudgetClient, bill: Bill) -> Reply:
        breaker = self._breakers[model_of(request.option)]
        if not breaker.admits(time.monotonic()):
            text = f"{request.option.alias} keeps failing and rests; use another"
            raise Fault(FaultKind.UNAVAILABLE, text)
        queued_s, granted_s = time.monotonic(), None
        model, runs = map(self._limiter_of, parts_of(self.entry, request.option))
        try:
            async with self.limiter, model, runs:
                most_nanousd = most_cost_nanousd(self.entry, request.option.prices)
                bill.attempts += 1
                key = f"{call_of(request)}.{bill.attempts}"
                reservation = Reservation(key, request.caller, most_nanousd, bill.take_free())
                reserved = most_nanousd > 0 or budget.count_calls
                if reserved:
                    refusal = await budget.reserve(reservation)
                    if refusal is not None:
                        raise Fault(FaultKind.BUDGET, refusal)
                granted_s = time.monotonic()
                return await self._charged(request, bill, reservation, reserved)
        finally:
            bill.queue_s += (granted_s or time.monotonic()) - queued_s
            breaker.undecided()

    async def _charged(
        self, request: ToolRequest, bill: Bill, reservation: Reservation, reserved: bool
    ) -> Reply:
        breaker, most_nanousd = self._breakers[model_of(request.option)], reservation.most_nanousd
        started_s, charged_nanousd = time.monotonic(), most_nanousd
        prices = request.option.prices
        try:
            reply = await self.tool.call(request)
            service_s = time.monotonic() - started_s if reply.service_s is None else reply.service_s
            charged_nanousd = min(most_nanousd, prices.cost_nanousd(reply.usage, service_s))
            bill.add(reply.usage, service_s)
            breaker.succeeded()
            return reply
        except Fault as fault:
            service_s = time.monotonic() - started_s
            if fault.usage is not None:
                charged_nanousd = min(most_nanousd, prices.cost_nanousd(fault.usage, service_s))
            elif not fault.may_have_acted:
                charged_nanousd = 0
            bill.unsent += not fault.sent
            bill.add(fault.usage or Usage(), service_s)
            if fault.kind.retryable:
                breaker.failed(time.monotonic())
            else:
                breaker.succeeded()
            raise
        finally:
            bill.charged_nanousd += charged_nanousd
            if reserved:
                bill.charges.append((reservation.key, charged_nanousd))


def parts_of(entry: Entry, option: ToolOption) -> tuple[str, str]:
    """Returns the model and the tool of a recipe's call; "" for none."""
    return (model_of(option), entry.runs or "") if entry.choices else ("", "")


def quota_of(limit: int, index: int, executors: int) -> int:
    """Returns executor `index`'s part of a pool-wide limit; the parts sum to the limit."""
    return limit // executors + (index < limit % executors)


def worth(entry: Entry, prices: Prices, bill: Bill, fault: FaultKind | None) -> int:
    """Returns what a provider would bill for a replayed call, in nano-dollars.

    The call is priced as one attempt: a recording holds only the sum over the attempts.
    """
    if fault is not None and bill.usage == NOTHING_SENT:
        return 0
    if fault is None or bill.usage != Usage():
        return prices.cost_nanousd(bill.usage, bill.service_s)
    unknown = fault in MAY_HAVE_ACTED or fault is FaultKind.CRASHED
    return most_cost_nanousd(entry, prices) if unknown else 0


async def _first_success(racing: set[asyncio.Future[Reply]]) -> Reply:
    """Returns the first reply of the racing attempts; raises the last one's fault if all fail."""
    waiting, last = set(racing), None
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for attempt in done:
            if attempt.exception() is None:
                return attempt.result()
            last = attempt.exception()
    assert last is not None
    raise last


def _pause_s(fault: Fault, retries: int) -> float:
    """Returns the endpoint's `Retry-After`, else a random time with a doubling bound."""
    if fault.retry_after_s is not None:
        return fault.retry_after_s
    return random.uniform(0, min(RETRY_MOST_S, RETRY_FIRST_S * 2**retries))
