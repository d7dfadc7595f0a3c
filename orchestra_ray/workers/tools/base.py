"""What an executor runs: one small class a kind of tool, behind one method.

A tool is made once in each executor process, from its catalogue entry, and called by many episodes
at once. It knows nothing of prices, budgets, limits, retries or cassettes: the executor has these
around it. What goes wrong is a `core.faults.Fault`; nothing else that a tool raises is expected.
"""

from dataclasses import dataclass
from typing import Protocol

from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import ToolRequest


@dataclass(frozen=True, slots=True)
class Reply:
    """What a tool gave back. `service_s` is given on a simulated clock; None: it is measured.

    `replayed`: it comes from a cassette, nothing was called, and `usage` is what it did cost.
    """

    text: str
    usage: Usage = Usage()
    service_s: float | None = None
    replayed: bool = False


class Tool(Protocol):
    async def call(self, request: ToolRequest) -> Reply:
        """The answer to `request.arguments`; raises `Fault`. The executor cuts it off in time."""
        ...

    async def close(self) -> None:
        """Ends what the tool started: processes, connections."""
        ...
