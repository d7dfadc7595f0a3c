"""Runs one call from end to end: cassette, attempts, deadline, truncation, ledger entry.

Every call has exactly one ledger entry and one `ToolResult`, within its entry's deadline. The entry
is settled with the spend actor before the result is returned, so no result is unbilled. A fault, or
a bug of the tool, becomes an observation that names it: its cost is charged, and the episode
continues. Only a replay that cannot continue ends the episode: it is entered, then raised.

The text of a tool is redacted of secrets of the environment and of the settings of all tools, since
it enters prompts, cassettes and trajectories.

The cassette is the outermost layer, so it holds exactly what the policy saw, including a timeout.
Pure tools are not recorded, and run in a replay too.
"""

import asyncio
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.records import LedgerEntry, Settlement, ToolRequest, ToolResult
from orchestra_ray.data.catalogue import Catalogue, Limits, model_of
from orchestra_ray.spend.accounts import call_of
from orchestra_ray.spend.client import SpendClient
from orchestra_ray.tracking.redact import Redactor
from orchestra_ray.tracking.secrets import configured_secrets
from orchestra_ray.workers.tools.base import Reply, Tool
from orchestra_ray.workers.tools.endpoint.completion import PolicyTurn
from orchestra_ray.workers.tools.registry import is_pure
from orchestra_ray.workers.tools.replay.cassette import (
    Cassette,
    CassetteError,
    ReplayedFault,
    key_of,
    version_of,
)
from orchestra_ray.workers.tools.runtime.attempts import Bill, Quota, Service, worth

CUT_MARK = " [cut]"
MAX_CHARACTERS = 200_000  # of any reply, whatever its own limit
LONGEST_SECRET = 8192
CASSETTE_S = 5.0  # beyond a call's deadline, for the disk; less than `client.MARGIN_S`

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Load:
    """The attempts of one tool in one executor: running, and held by a limit.

    An attempt of a recipe counts for the recipe and for its parts.
    """

    running: int
    held: int


class Executor:
    """Executes requests against the tools of a catalogue, within its `quota` of the limits.

    restarted: it replaces a dead executor, whose last calls count for the rates.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        tools: Mapping[str, Tool],
        spend: SpendClient,
        cassette: Cassette | None = None,
        quota: Quota | None = (0, 1),
        restarted: bool = False,
    ):
        self._entries = catalogue.entries
        self._spend, self._cassette, self._is_failure_reported = spend, cassette, False
        known = [s for entry in self._entries.values() for s in configured_secrets(entry.settings)]
        self.redactor = Redactor.of(os.environ, known)
        self._services: dict[str, Service] = {}
        for name, tool in tools.items():
            entry = catalogue.entries[name]
            self._services[name] = Service(entry, tool, quota, self._services, restarted)

    async def execute(self, request: ToolRequest, waited_s: float = 0.0) -> ToolResult:
        """Returns the result; raises `CassetteError` if the cassette must answer and cannot.

        waited_s: the time that the request has spent in this process.
        """
        service, bill = self._services[request.option.identity], Bill()
        fault: Fault | None = None
        fatal: CassetteError | None = None
        text, replayed = "", False
        try:
            reply = await self._reply(service, request, bill)
            text = self._said(request, reply.text, service.entry.limits)
            replayed = reply.replayed
            if replayed:
                bill.usage, bill.service_s = reply.usage, reply.service_s or 0.0
        except Fault as error:
            fault, replayed = error, isinstance(error, ReplayedFault)
            if replayed:
                bill.usage, bill.service_s = error.usage or bill.usage, error.service_s or 0.0
        except CassetteError as error:
            fault, fatal = Fault(FaultKind.NOT_RECORDED, str(error)), error
        if fault is not None:
            text = self._shown(f"error: {fault}", service.entry.limits)
        kind = None if fault is None else fault.kind
        worth_nanousd = worth(service.entry, request.option.prices, bill, kind) if replayed else 0
        entry = _entry(request, bill, waited_s, worth_nanousd, replayed, kind)
        entered = self._spend.enter(Settlement(call_of(request), entry, tuple(bill.charges)))
        if entered is not None:
            await entered.wait()
        if fatal is not None:
            raise fatal
        return ToolResult(text, entry, entry.error)

    async def set_quota(self, quota: Quota) -> None:
        """Sets the quota; returns when no tool exceeds it, at most after the running calls."""
        services = self._services.values()
        for service in services:
            service.set_quota(quota)
        async with asyncio.timeout(max(s.entry.limits.deadline_s for s in services)):
            await asyncio.gather(*(service.limiter.kept() for service in services))

    def load(self) -> Mapping[str, Load]:
        return {n: Load(s.limiter.inside, s.limiter.waiting) for n, s in self._services.items()}

    async def close(self) -> None:
        await asyncio.gather(*(service.tool.close() for service in self._services.values()))
        if self._cassette is not None:
            await self._cassette.close()

    async def _reply(self, service: Service, request: ToolRequest, bill: Bill) -> Reply:
        cassette = self._cassette
        if cassette is None or is_pure(service.entry):
            return await self._live(service, request, bill)
        key = key_of(request, version_of(self._entries, request.option))
        try:
            async with asyncio.timeout(service.entry.limits.deadline_s + CASSETTE_S):
                return await cassette.play(key, lambda: self._live(service, request, bill))
        except TimeoutError:
            raise Fault(FaultKind.TIMEOUT, "the cassette does not answer") from None
        finally:
            if cassette.failure is not None and not self._is_failure_reported:
                self._is_failure_reported = True
                self._spend.report(cassette.failure)

    async def _live(self, service: Service, request: ToolRequest, bill: Bill) -> Reply:
        """Returns the reply with the usage of all attempts, or raises `Fault` by the deadline."""
        limits = service.entry.limits
        try:
            async with asyncio.timeout(limits.deadline_s):
                reply = await service.call(request, self._spend, bill)
                text = self._said(request, reply.text, limits)
                return replace(reply, text=text, usage=bill.usage, service_s=bill.service_s)
        except TimeoutError:
            fault = Fault(FaultKind.TIMEOUT, f"no answer within {limits.deadline_s:g} s")
            bill.service_s = max(bill.service_s, limits.deadline_s - bill.queue_s)
        except Fault as error:
            fault = error
        except Exception as error:
            _log.warning("%s has a bug", request.option.identity, exc_info=error)
            fault = Fault(FaultKind.CRASHED, f"{request.option.alias} broke; use another")
        fault.args = (self._shown(str(fault), limits),)  # redacted, for the recording
        fault.usage, fault.service_s = bill.recorded, bill.service_s
        raise fault

    def _said(self, request: ToolRequest, text: str, limits: Limits) -> str:
        """Returns a reply as it may be shown; each part of a policy's turn separately."""
        if not request.messages:
            return self._shown(text, limits)
        return PolicyTurn.load(text).map(lambda part: self._shown(part, limits)).dump()

    def _shown(self, text: str, limits: Limits) -> str:
        """Returns a text without secrets, truncated at the limit."""
        most = min(MAX_CHARACTERS, limits.max_reply_characters or MAX_CHARACTERS)
        if len(text) <= most:
            return self.redactor.text(text)
        # Redaction comes first: a secret that is cut in half would not be recognised.
        return self.redactor.text(text[: most + LONGEST_SECRET])[:most] + CUT_MARK


def _entry(
    request: ToolRequest,
    bill: Bill,
    waited_s: float,
    saved_nanousd: int,
    replayed: bool,
    fault: FaultKind | None,
) -> LedgerEntry:
    option = request.option
    return LedgerEntry(
        call_id=request.call_id,
        caller=request.caller,
        identity=option.identity,
        alias=option.alias,
        kind=option.kind,
        model=model_of(option),
        price_sheet=option.price_sheet,
        usage=bill.usage,
        charged_nanousd=bill.charged_nanousd,
        saved_nanousd=saved_nanousd,
        service_s=bill.service_s,
        queue_s=request.waited_s + waited_s + bill.queue_s,
        retries=max(0, bill.attempts - bill.hedges - 1),
        hedges=bill.hedges,
        replayed=replayed,
        error=fault and fault.value,
    )
