"""The verdict and the grader interface.

A `Verdict` is about the answer. If correctness cannot be determined (no endpoint, no sandbox, an
unreadable reply of a model), the result is a `Failure`, never a verdict of wrong.
"""

from dataclasses import dataclass
from typing import Protocol

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.records import Caller, LedgerEntry, Task


@dataclass(frozen=True, slots=True)
class Verdict:
    """reason: a few words that quote neither question nor answer.

    entry: the ledger entry of the last model call for the verdict, if any. unscorable: the answer
    counts as wrong because the scorer could not score it.
    """

    correct: bool
    reason: str
    entry: LedgerEntry | None = None
    unscorable: bool = False


class Grader(Protocol):
    async def grade(self, task: Task, answer: str, caller: Caller) -> Verdict | Failure:
        """Grades within the grader's own limits. Its cost is charged to `caller` in the ledger."""
        ...

    async def close(self) -> None:
        """Stops all processes and calls of the grader."""
        ...


def failed(name: str, message: str) -> Failure:
    return Failure(FailureKind.REWARD, f"judge {name}", message)
