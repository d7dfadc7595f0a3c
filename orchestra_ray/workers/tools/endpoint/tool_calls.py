"""Assembling the function calls of an answer from a complete message or from chunks.

In a complete message each element is a call. In a stream, a chunk belongs to the call with its
index; since some servers number all calls 0, a new id together with a name starts another call.
Without an index (Gemini, Ollama), a chunk belongs to the call with its id. Without either, a name
starts a call, unless it repeats the name of the last call while that call's arguments are
incomplete; a chunk without a name continues the last call.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_ARGUMENTS = ("arguments", "input", "parameters")


@dataclass(slots=True)
class FunctionCall:
    """A function call, as far as it has been received."""

    index: int | None = None
    id: str = ""
    name: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)  # JSON, as the model wrote it

    def as_json(self) -> str:
        """Returns the call in the local policies' format; malformed arguments stay malformed."""
        name, arguments = "".join(self.name), "".join(self.arguments) or "{}"
        try:
            call = {"name": name, "arguments": json.loads(arguments)}
            return json.dumps(call, ensure_ascii=False)
        except (ValueError, RecursionError):
            # The name stays first, so that malformed arguments cannot change the function called.
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
class FunctionCalls:
    """The calls of one answer, ordered by index, or by arrival without one."""

    items: list[FunctionCall] = field(default_factory=list)

    def add(self, part: Mapping[str, object], in_content: Sequence[object], is_whole: bool) -> None:
        """Adds the calls of a message or a delta; raises TypeError if one is not an object."""
        listed = part.get("tool_calls")
        calls = [listed] if isinstance(listed, Mapping) else listed
        calls = calls if isinstance(calls, list) else []
        if not calls:
            legacy = part.get("function_call")
            calls = [{"index": 0, "function": legacy}] if isinstance(legacy, Mapping) else []
        for call in calls or in_content:
            if not isinstance(call, Mapping):
                raise TypeError
            self._add(call, is_whole)

    def as_json(self) -> list[str]:
        order = enumerate(self.items)
        placed = sorted(order, key=lambda one: one[0] if one[1].index is None else one[1].index)
        return [call.as_json() for _, call in placed]

    def texts(self) -> list[str]:
        return [text for call in self.items for text in (*call.name, *call.arguments)]

    def _add(self, piece: Mapping[str, object], is_whole: bool) -> None:
        function = piece.get("function")
        holder = function if isinstance(function, Mapping) else piece
        name, call_id, index = holder.get("name"), piece.get("id"), piece.get("index")
        name = name if isinstance(name, str) else ""
        call_id = call_id if isinstance(call_id, str) else ""
        index = index if isinstance(index, int) and not isinstance(index, bool) else None
        call = None if is_whole else self._begun(index, call_id, name)
        if call is None:
            call = FunctionCall(None if is_whole else index)
            self.items.append(call)
        call.id = call.id or call_id
        values = (holder.get(key) for key in _ARGUMENTS)
        call.add(name, next(filter(None, map(_arguments, values)), ""))

    def _begun(self, index: int | None, call_id: str, name: str) -> FunctionCall | None:
        """Returns the call that a chunk continues, None if it starts a new one."""
        last = self.items[-1] if self.items else None
        if index is not None:
            same = [call for call in self.items if call.index == index]
            is_next = same and name and call_id and same[-1].id not in ("", call_id)
            return same[-1] if same and not is_next else None
        if call_id and last is not None and last.id:
            known = next((call for call in self.items if call.id == call_id), None)
            return last if known is None and not name else known
        if not name or last is None:
            return last
        return last if "".join(last.name) == name and not last.is_whole else None


def _arguments(value: object) -> str:
    """Returns the arguments as JSON text; an empty object counts as not yet received."""
    if isinstance(value, str):
        return value
    return "" if value is None or value == {} else json.dumps(value, ensure_ascii=False)
