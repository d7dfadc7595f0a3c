"""The functions that a model calls, as a chat endpoint tells them: whole, or in chunks.

In a whole message each element is a call. In a stream a chunk belongs to the call of its index; a
further id with a name begins another call there, for some servers number all calls 0. Without an
index (Gemini, Ollama) it belongs to the call of its id; else a name begins a call, unless it
repeats that of the last call, whose arguments are not whole yet; and what has no name goes on with
the last call.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_ARGUMENTS = ("arguments", "input", "parameters")


@dataclass(slots=True)
class AskedFunction:
    """A function that the model calls, as far as it has come."""

    index: int | None = None
    id: str = ""
    name: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)  # JSON, as the model wrote it

    def as_json(self) -> str:
        """As a policy of ours would have written it; arguments that are no JSON as they came."""
        name, arguments = "".join(self.name), "".join(self.arguments) or "{}"
        try:
            call = {"name": name, "arguments": json.loads(arguments)}
            return json.dumps(call, ensure_ascii=False)
        except (ValueError, RecursionError):
            # The name stays first: what cannot be read must not become another call.
            return f'{{"name": {json.dumps(name)}, "arguments": {json.dumps(arguments)}'

    def add(self, name: str, arguments: str) -> None:
        if name and name != "".join(self.name):  # some servers repeat it in every chunk
            self.name.append(name)
        if arguments:
            self.arguments.append(arguments)

    @property
    def is_whole(self) -> bool:
        try:
            return isinstance(json.loads("".join(self.arguments)), dict)
        except (ValueError, RecursionError):
            return False


@dataclass(slots=True)
class AskedCalls:
    """The calls of one answer, in the order of their indices, or of their coming."""

    asked: list[AskedFunction] = field(default_factory=list)

    def add(self, part: Mapping[str, object], in_content: Sequence[object], is_whole: bool) -> None:
        """Takes in the calls of a message or a delta. Raises TypeError if one is no object."""
        told = part.get("tool_calls")
        calls = [told] if isinstance(told, Mapping) else told if isinstance(told, list) else []
        if not calls:
            legacy = part.get("function_call")
            calls = [{"index": 0, "function": legacy}] if isinstance(legacy, Mapping) else []
        for call in calls or in_content:
            if not isinstance(call, Mapping):
                raise TypeError
            self._add(call, is_whole)

    def as_json(self) -> list[str]:
        order = enumerate(self.asked)
        placed = sorted(order, key=lambda one: one[0] if one[1].index is None else one[1].index)
        return [call.as_json() for _, call in placed]

    def texts(self) -> list[str]:
        return [text for call in self.asked for text in (*call.name, *call.arguments)]

    def _add(self, piece: Mapping[str, object], is_whole: bool) -> None:
        function = piece.get("function")
        holder = function if isinstance(function, Mapping) else piece
        name, call_id, index = holder.get("name"), piece.get("id"), piece.get("index")
        name = name if isinstance(name, str) else ""
        call_id = call_id if isinstance(call_id, str) else ""
        index = index if isinstance(index, int) and not isinstance(index, bool) else None
        call = None if is_whole else self._begun(index, call_id, name)
        if call is None:
            call = AskedFunction(None if is_whole else index)
            self.asked.append(call)
        call.id = call.id or call_id
        values = (holder.get(key) for key in _ARGUMENTS)
        call.add(name, next(filter(None, map(_arguments, values)), ""))

    def _begun(self, index: int | None, call_id: str, name: str) -> AskedFunction | None:
        """The call that a chunk goes on with; None if it begins one."""
        last = self.asked[-1] if self.asked else None
        if index is not None:
            same = [call for call in self.asked if call.index == index]
            is_next = same and name and call_id and same[-1].id not in ("", call_id)
            return same[-1] if same and not is_next else None
        if call_id and last is not None and last.id:
            known = next((call for call in self.asked if call.id == call_id), None)
            return last if known is None and not name else known
        if not name or last is None:
            return last
        return last if "".join(last.name) == name and not last.is_whole else None


def _arguments(value: object) -> str:
    """JSON, as it came or written anew; an object without members says nothing yet."""
    if isinstance(value, str):
        return value
    return "" if value is None or value == {} else json.dumps(value, ensure_ascii=False)
