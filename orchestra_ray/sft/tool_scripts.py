"""The calls of tools in demonstrations, with the tools' replies.

A search runs on the catalogue's own corpus. The reply of the Python tool is computed by the
calculator: a program that prints an integer expression prints the calculator's result.
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
    """A call and its reply. `answers`: the reply answers the task; otherwise it only helps."""

    arguments: Mapping[str, str]
    reply: str
    answers: bool


class ToolScripts:
    """Scripts of a catalogue's tools. Opens its search indexes."""

    def __init__(self, catalogue: Catalogue):
        self._backends = {name: tool.backend for name, tool in catalogue.tools.items()}
        self._indexes = {
            name: _open(tool) for name, tool in catalogue.tools.items() if tool.backend == "search"
        }

    def script(self, option: ToolOption, task: Task, topic: str) -> ToolScript | None:
        """Returns None if the tool is of no use to the task."""
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
