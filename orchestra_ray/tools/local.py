"""The books in this process, for calls that no run makes; what was entered can be read back."""

from collections.abc import Sequence

from orchestra_ray.core.records import LedgerEntry
from orchestra_ray.core.states import Failure
from orchestra_ray.tools.books import Posting, SpendBooks
from orchestra_ray.tools.guard import Reservation, SpendGuard, SpendLimits
from orchestra_ray.tools.ledger import Ledger


class LocalBooks:
    """What an `Executor` reserves at and posts to, without an actor between."""

    def __init__(self, name: str, limits: SpendLimits):
        self._books = SpendBooks(SpendGuard(limits), Ledger(name))
        self._entries: list[LedgerEntry] = []
        self.count_calls = limits.count_calls

    async def reserve(self, asked: Reservation) -> str | None:
        return self._books.reserve([asked])[0]

    def enter(self, posting: Posting) -> None:
        self._books.post([posting])
        self._entries.append(posting.entry)

    def report(self, failure: Failure) -> None:
        self._books.post([failure])

    @property
    def entries(self) -> Sequence[LedgerEntry]:
        """One a call, in the order of their ends."""
        return tuple(self._entries)
