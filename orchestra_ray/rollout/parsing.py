"""What a response asks for, read from its token ids.

A response is a thought (up to the last `</think>`), then either tool calls in Hermes form
(`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`) or the final answer as text. Only the
tokens themselves open and close a call: their spelling inside other text means nothing.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestra_ray.rollout.chat import Chat


@dataclass(frozen=True, slots=True)
class AskedCall:
    """A call as written. `fault` says what is wrong with its JSON; then the rest is empty."""

    name: str
    arguments: Mapping[str, Any]
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class ParsedTurn:
    """Calls to run, or an answer, or neither. `said`: the words before the calls."""

    calls: tuple[AskedCall, ...]
    answer: str | None
    said: str = ""

    @property
    def format_ok(self) -> bool:
        well_formed = any(call.fault is None for call in self.calls)
        return well_formed or (not self.calls and self.answer is not None)


Parser = Callable[[Chat, Sequence[int]], ParsedTurn]


def parse_hermes(chat: Chat, response_ids: Sequence[int]) -> ParsedTurn:
    """The turn in a response's ids, with or without the end-of-turn token."""
    ids = _after_thought(chat, [i for i in response_ids if i != chat.end_id])
    open_id, close_id = chat.control_ids["<tool_call>"], chat.control_ids["</tool_call>"]
    calls: list[AskedCall] = []
    said = chat.decode(ids[: ids.index(open_id)]).strip() if open_id in ids else ""
    while open_id in ids:
        rest = ids[ids.index(open_id) + 1 :]
        if close_id not in rest:
            calls.append(AskedCall("", {}, "the tool call is not closed"))
            break
        calls.append(_call(chat.decode(rest[: rest.index(close_id)])))
        ids = rest[rest.index(close_id) + 1 :]
    if calls:
        return ParsedTurn(tuple(calls), None, said)
    text = chat.decode(ids).strip()
    return ParsedTurn((), text or None)


PARSERS: Mapping[str, Parser] = {"hermes": parse_hermes}


def _after_thought(chat: Chat, ids: list[int]) -> list[int]:
    open_id, close_id = chat.control_ids["<think>"], chat.control_ids["</think>"]
    if close_id in ids:
        last = len(ids) - 1 - ids[::-1].index(close_id)
        return ids[last + 1 :]
    return [] if open_id in ids else ids


def _call(text: str) -> AskedCall:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return AskedCall("", {}, "the tool call is not valid JSON")
    if not isinstance(value, dict) or set(value) != {"name", "arguments"}:
        return AskedCall("", {}, "a tool call has exactly a name and arguments")
    if not isinstance(value["name"], str) or not isinstance(value["arguments"], dict):
        return AskedCall("", {}, "the name must be a string and the arguments an object")
    return AskedCall(value["name"], value["arguments"])
