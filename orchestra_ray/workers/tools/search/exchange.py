"""The query and the reply text of all search tools.

The reply is numbered passages, each under its title and cut to a limit. Passages are not escaped:
the tokeniser of the policy treats special tokens of a chat template in them as plain text.
"""

from collections.abc import Iterable

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.workers.tools.search.text import encodable

MAX_TITLE_CHARS = 200
CUT = " … [cut]"
NOTHING_FOUND = "nothing was found"


def query_of(request: ToolRequest) -> str:
    """Returns the argument `query`, or the task's question without it; raises `Fault` if empty."""
    query = request.arguments.get("query")
    query = encodable(request.task.question if query is None else query).strip()
    if not query:
        raise Fault(FaultKind.BAD_INPUT, "the query is empty")
    return query


def numbered(titled_texts: Iterable[tuple[str, str]], shown_chars: int) -> str:
    """Returns the passages as text for the policy; `NOTHING_FOUND` if there are none."""
    blocks = (
        f"[{number}] {_cut(title, MAX_TITLE_CHARS)}".rstrip() + f"\n{_cut(text, shown_chars)}"
        for number, (title, text) in enumerate(titled_texts, start=1)
    )
    return "\n\n".join(blocks) or NOTHING_FOUND


def _cut(text: str, limit_chars: int) -> str:
    text = encodable(text)
    return text if len(text) <= limit_chars else text[:limit_chars] + CUT
