"""The books in this process, for calls that no run makes; what was entered can be read back."""

from collections.abc import Sequence

from orchestra_ray.core.faults import Failure
from orchestra_ray.core.records import LedgerEntry, Reservation, Settlement
from orchestra_ray.spend.accounts import SpendAccounts
from orchestra_ray.spend.budget import SpendBudget, SpendLimits
from orchestra_ray.spend.ledger import Ledger


class LocalSpendClient:
    """What an `Executor` reserves at and posts to, without an actor between."""

    def __init__(self, limits: SpendLimits | None = None, run: str = "run"):
        self.budget, self.ledger = SpendBudget(limits or SpendLimits()), Ledger(run)
        self.books = SpendAccounts(self.budget, self.ledger)
        self.count_calls = self.budget.limits.count_calls
        self._entries: list[LedgerEntry] = []

    async def reserve(self, asked: Reservation) -> str | None:
        return self.books.reserve([asked])[0]

    def enter(self, settlement: Settlement) -> None:
        self.books.post([settlement])
        self._entries.append(settlement.entry)

    def report(self, failure: Failure) -> None:
        self.books.post([failure])

    @property
    def entries(self) -> Sequence[LedgerEntry]:
        """One a call, in the order of their ends."""
        return tuple(self._entries)
