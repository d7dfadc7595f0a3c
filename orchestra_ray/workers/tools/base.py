"""The protocol of a tool, as the executor runs it: one small class per kind of tool.

A tool is made once in each executor process, from its catalogue entry, and called by many episodes
concurrently. Prices, budgets, limits, retries and cassettes are the executor's concern. A tool
reports an error by raising `core.faults.Fault`; any other exception counts as a bug of the tool.
"""

from dataclasses import dataclass
from typing import Protocol

from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import ToolRequest


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply of a tool.

    service_s: given on a simulated clock; None: it is measured. replayed: from a cassette, without
    a call; `usage` is then that of the recorded call.
    """

    text: str
    usage: Usage = Usage()
    service_s: float | None = None
    replayed: bool = False


class Tool(Protocol):
    async def call(self, request: ToolRequest) -> Reply:
        """Returns the answer to `request.arguments`, or raises `Fault`. May be cancelled."""
        ...

    async def close(self) -> None:
        """Ends the processes and connections that the tool started."""
        ...
