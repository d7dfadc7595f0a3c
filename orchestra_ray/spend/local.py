"""Spend accounts in the calling process, without an actor, for calls outside a run."""

from collections.abc import Sequence

from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import LedgerEntry, Reservation, Settlement
from orchestra_ray.spend.accounts import SpendAccounts
from orchestra_ray.spend.budget import SpendBudget, SpendLimits
from orchestra_ray.spend.ledger import Ledger


class LocalSpendClient:
    """A `SpendClient` without an actor."""

    def __init__(self, limits: SpendLimits | None = None, run: str = "run"):
        self.budget, self.ledger = SpendBudget(limits or SpendLimits()), Ledger(run)
        self.accounts = SpendAccounts(self.budget, self.ledger)
        self.count_calls = self.budget.limits.count_calls
        self._entries: list[LedgerEntry] = []

    async def reserve(self, asked: Reservation) -> str | None:
        return self.accounts.reserve([asked])[0]

    def enter(self, settlement: Settlement) -> None:
        self.accounts.settle([settlement])
        self._entries.append(settlement.entry)

    def report(self, failure: Failure) -> None:
        self.accounts.settle([failure])

    @property
    def entries(self) -> Sequence[LedgerEntry]:
        """One per call, in the order in which they ended."""
        return tuple(self._entries)
