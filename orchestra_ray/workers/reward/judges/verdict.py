"""What a judge says, and what a judge is.

A `Verdict` is about the answer. Where a judge cannot say whether the answer is right (no endpoint,
no sandbox, nothing to be read in what a model said) there is a `Failure` in its place, never a
verdict of wrong.
"""

from dataclasses import dataclass
from typing import Protocol

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.records import Caller, LedgerEntry, Task


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is a few words that quote neither question nor answer.

    `entry` is the last call that the verdict cost; None: it cost none. `unscorable`: the scorer
    could not score the answer, which is wrong for that reason.
    """

    correct: bool
    reason: str
    entry: LedgerEntry | None = None
    unscorable: bool = False


class Grader(Protocol):
    async def judge(self, task: Task, answer: str, caller: Caller) -> Verdict | Failure:
        """Ends within limits of its own. `asker` is who stands in the ledger for what it costs."""
        ...

    async def close(self) -> None:
        """Ends what the judge started."""
        ...


def failed(judge: str, message: str) -> Failure:
    return Failure(FailureKind.REWARD, f"judge {judge}", message)
