"""The Ray actor that owns the spend accounts of a run, and its client.

One process holds the accounts, so every limit holds exactly for all processes together. The actor
also keeps what must outlive a tool executor: its quota of the rate limits, and its incarnation, so
that a hanging executor is killed only once.
"""

import gc
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import ray
from ray.actor import ActorHandle, ActorProxy
from ray.exceptions import ActorDiedError

from orchestra_ray.core.memory import peak_mib
from orchestra_ray.core.process_log import ProcessLog, own_log
from orchestra_ray.core.serialization import unpack
from orchestra_ray.spend.accounts import SpendAccounts, StepTotals
from orchestra_ray.spend.budget import SpendBudget, SpendLimits
from orchestra_ray.spend.client import BatchedSpendClient, SpendUnreachable
from orchestra_ray.spend.incarnations import Incarnations
from orchestra_ray.spend.ledger import FOLDER, Ledger

SPEND_DEADLINE_S = 30.0
SETTLE_TRIES = 4

_log = logging.getLogger(__name__)


class SpendActor:
    """One per run. Its methods are short and never wait, so calls are served one at a time."""

    def __init__(self, run: str, folder: str | None, limits: SpendLimits):
        ledger = Ledger(run, None if folder is None else Path(folder) / FOLDER)
        budget = SpendBudget(limits)
        budget.go_on_from(*ledger.spent_before())
        self._accounts = SpendAccounts(budget, ledger)
        self._quotas: dict[str, tuple[int, int]] = {}
        self._incarnations = Incarnations()
        gc.freeze()  # imported modules never become garbage; scanning them dominates collections

    @ray.method
    def reserve(self, packed: bytes) -> list[str | None]:
        """Takes packed `Reservation`s; returns None for each granted one, else the refusal."""
        [reservations] = unpack(packed)
        return self._accounts.reserve(reservations)

    @ray.method
    def settle(self, packed: bytes) -> None:
        """Takes packed `Settlement`s, `Lost`s and `Failure`s."""
        [settlements] = unpack(packed)
        self._accounts.settle(settlements)

    @ray.method
    def keep_quota(self, executor: str, quota: tuple[int, int]) -> None:
        """Stores the quota (index, executors) of an executor, for its next incarnation."""
        self._quotas[executor] = quota

    @ray.method
    def quota_of(self, executor: str, incarnation: str) -> tuple[int, int] | None:
        """Returns the stored quota of a restarted executor, and records its new incarnation."""
        self._incarnations.begin(executor, incarnation)
        return self._quotas.get(executor)

    @ray.method
    def end_incarnation(self, executor: ActorProxy[Any], incarnation: str) -> None:
        """Kills an executor that hangs, once per incarnation; Ray restarts it."""
        if self._incarnations.end(actor_id(executor), incarnation):
            _log.warning("executor %s hangs and is killed", actor_id(executor))
            ray.kill(cast(ActorHandle, executor), no_restart=False)

    @ray.method
    def close_step(self, step: int) -> StepTotals:
        return self._accounts.close_step(step)

    @ray.method
    def process_log(self) -> ProcessLog:
        return own_log()

    @ray.method
    def peak_mib(self) -> Mapping[str, float]:
        return {"spend": peak_mib()}


RemoteSpendActor = ray.remote(SpendActor)


class SpendActorClient(BatchedSpendClient):
    """A `BatchedSpendClient` of a `SpendActor`."""

    def __init__(self, spend: ActorProxy[SpendActor], count_calls: bool = False):
        super().__init__(_ActorTransport(spend), count_calls, SPEND_DEADLINE_S, SETTLE_TRIES)


class _ActorTransport:
    """The actor's methods as coroutines."""

    def __init__(self, spend: ActorProxy[SpendActor]):
        self._spend = spend

    async def reserve(self, packed: bytes) -> list[str | None]:
        return await self._spend.reserve.remote(packed)

    async def settle(self, packed: bytes) -> None:
        try:
            await self._spend.settle.remote(packed)
        except ActorDiedError:
            raise SpendUnreachable from None


def actor_id(handle: ActorProxy[Any]) -> str:
    """Returns the hexadecimal id of an actor, which a restart does not change."""
    return cast(ActorHandle, handle)._actor_id.hex()
