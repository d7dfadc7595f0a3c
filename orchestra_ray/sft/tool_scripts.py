"""How a demonstration calls a tool, and what the tool answers: each tool in its own words.

The search is the catalogue's own, over its own corpus. The calculator computes for the sandbox too:
a program that prints an integer expression prints what the calculator says.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestra_ray.core.records import Task, ToolOption
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind
from orchestra_ray.workers.tools.builtin.calculator import calculate
from orchestra_ray.workers.tools.registry import BACKENDS
from orchestra_ray.workers.tools.search.exchange import numbered
from orchestra_ray.workers.tools.search.passages import Retriever
from orchestra_ray.workers.tools.search.tool import SearchSettings, open_retriever


@dataclass(frozen=True, slots=True)
class ToolScript:
    """`answers`: the reply answers the task; else it only helps."""

    arguments: Mapping[str, str]
    reply: str
    answers: bool


class ToolScripts:
    """Of the tools in a catalogue. Opens its search indexes."""

    def __init__(self, catalogue: Catalogue):
        self._backends = {name: tool.backend for name, tool in catalogue.tools.items()}
        self._indexes = {
            name: _open(tool) for name, tool in catalogue.tools.items() if tool.backend == "search"
        }

    def script(self, option: ToolOption, task: Task, topic: str) -> ToolScript | None:
        """None where the tool is of no use to the task."""
        expression = task.payload["metadata"].get("expression")
        match self._backends[option.identity]:
            case "calculator" if expression:
                return ToolScript({"expression": expression}, calculate(expression), True)
            case "python" if expression:
                return ToolScript({"code": f"print({expression})"}, calculate(expression), True)
            case "search":
                return ToolScript({"query": topic}, self._found(option.identity, topic), False)
        return None

    def _found(self, name: str, query: str) -> str:
        retriever, settings = self._indexes[name]
        (hits,) = retriever.retrieve([query], settings.top_k)
        passages = ((hit.passage.title, hit.passage.text) for hit in hits)
        return numbered(passages, settings.shown_chars)


def _open(entry: Entry) -> tuple[Retriever, SearchSettings]:
    settings: SearchSettings = BACKENDS[Kind.TOOL]["search"].settings(entry)
    return open_retriever(settings), settings
