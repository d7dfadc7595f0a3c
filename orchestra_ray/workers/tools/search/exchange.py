"""What every search tool is asked, and the text that it answers.

The text is numbered passages, each under its title and cut to a limit. What stands in a passage is
passed on as it is, special tokens of a chat template too: who tokenises it disables them.
"""

from collections.abc import Iterable

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.workers.tools.search.text import encodable

MAX_TITLE_CHARS = 200
CUT = " … [cut]"
NOTHING_FOUND = "nothing was found"


def query_of(request: ToolRequest) -> str:
    """The argument `query`; without it, the question of the task."""
    query = request.arguments.get("query")
    query = encodable(request.task.question if query is None else query).strip()
    if not query:
        raise Fault(FaultKind.BAD_INPUT, "the query is empty")
    return query


def numbered(titled_texts: Iterable[tuple[str, str]], shown_chars: int) -> str:
    """The passages as the policy reads them; a line that says so where there is none."""
    blocks = (
        f"[{number}] {_cut(title, MAX_TITLE_CHARS)}".rstrip() + f"\n{_cut(text, shown_chars)}"
        for number, (title, text) in enumerate(titled_texts, start=1)
    )
    return "\n\n".join(blocks) or NOTHING_FOUND


def _cut(text: str, limit_chars: int) -> str:
    text = encodable(text)
    return text if len(text) <= limit_chars else text[:limit_chars] + CUT
