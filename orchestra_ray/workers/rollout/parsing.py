"""Parses a response from its token ids, and writes a response as token ids.

A response is a thought (up to the first `</think>`), then either tool calls in Hermes form
(`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`) or the final answer as text. Only
control tokens open and close a thought or a call; the same spelling in other text has no meaning.
The generation prompt may have opened the thought already.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestra_ray.workers.rollout.chat import Chat, Control

THINK, END_OF_THINKING = Control("<think>"), Control("</think>")
CALL, END_OF_CALL = Control("<tool_call>"), Control("</tool_call>")
MARKS = tuple(mark.text for mark in (THINK, END_OF_THINKING, CALL, END_OF_CALL))


@dataclass(frozen=True, slots=True)
class AskedCall:
    """A call as written. `fault` describes malformed JSON; the other fields are then empty."""

    name: str
    arguments: Mapping[str, Any]
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class ParsedTurn:
    """Calls to run, an answer, or neither. `said`: the text before the calls."""

    calls: tuple[AskedCall, ...]
    answer: str | None
    said: str = ""

    @property
    def format_ok(self) -> bool:
        well_formed = any(call.fault is None for call in self.calls)
        return well_formed or (not self.calls and self.answer is not None)


Parser = Callable[[Chat, Sequence[int]], ParsedTurn]


def parse_hermes(chat: Chat, response_ids: Sequence[int]) -> ParsedTurn:
    """Parses a response's ids, with or without its stop token."""
    ids = _after_thought(chat, [i for i in response_ids if i not in chat.stop_ids])
    open_id, close_id = chat.control_ids[CALL.text], chat.control_ids[END_OF_CALL.text]
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


def write_hermes(
    chat: Chat,
    said: str = "",
    calls: Sequence[str] = (),
    thought: str | None = None,
    opened: bool | None = None,
) -> list[int]:
    """Returns the ids of a turn in Hermes form, with its end of turn.

    said: the answer, or the text before the calls. calls: the JSON of each. opened: whether the
    prompt has opened the thought (None: as the chat's generation prompt does). All arguments are
    data: no spelling in them becomes a control token.
    """
    parts: list[str | Control] = []
    if opens_thought(chat) if opened is None else opened:
        parts += [f"{thought or ''}\n", END_OF_THINKING, "\n\n"]
    elif thought is not None:
        parts += [THINK, f"\n{thought}\n", END_OF_THINKING, "\n\n"]
    parts.append(said)
    for place, call in enumerate(calls):
        parts += ["\n"] if place or said else []
        parts += [CALL, f"\n{call}\n", END_OF_CALL]
    return [*chat.encode(*parts), chat.end_id]


def call_json(name: str, arguments: Mapping[str, object]) -> str:
    """Returns a call as Qwen3 models write it between the two marks."""
    return json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)


def opens_thought(chat: Chat) -> bool:
    """Returns whether the generation prompt opens a thought, to be closed by the policy."""
    prompt = chat.generation_prompt
    return prompt.rfind(THINK.text) > prompt.rfind(END_OF_THINKING.text)


def _after_thought(chat: Chat, ids: list[int]) -> list[int]:
    """Returns the ids after the thought at the start of the response, if there is one.

    `workers.tools.endpoint.completion.split_thinking` applies the same rule to text.
    """
    open_id, close_id, call_id = (chat.control_ids[m.text] for m in (THINK, END_OF_THINKING, CALL))
    place = {i: ids.index(i) for i in (open_id, close_id, call_id) if i in ids}
    opened = opens_thought(chat) or (
        open_id in place and not chat.decode(ids[: place[open_id]]).strip()
    )
    if close_id in place:
        close = place[close_id]
        if opened or close < min(place.get(open_id, len(ids)), place.get(call_id, len(ids))):
            return ids[close + 1 :]
    return [] if opened else ids


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
