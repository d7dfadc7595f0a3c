"""Parsing the content of a message or a delta, in the dialects of chat endpoints.

Content is a string, a part, or a list of parts; a part is text, reasoning, a refusal or a call.
Reasoning may also be in a field beside the content. Its name varies, and some servers send the same
text under two names; the first non-empty one is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass

_REASONING = ("reasoning_content", "reasoning", "reasoning_details", "thinking", "thinking_blocks")
_THINKING_PARTS = {
    *("reasoning", "thinking", "reasoning_text", "reasoning_content", "summary_text"),
    *("reasoning.text", "reasoning.summary"),
}
_CALL_PARTS = {"tool_use", "tool_call", "function_call"}
_TEXT_PARTS = {"text", "output_text", "input_text", None}
_TEXT_KEYS = ("text", "content", "value")
_THOUGHT_KEYS = ("thinking", "reasoning", "reasoning_content", "summary", *_TEXT_KEYS)
_DEPTH = 8  # of nested parts


@dataclass(frozen=True, slots=True)
class Pieces:
    """Parsed content. `calls` are the parts of the content that call a tool."""

    content: str = ""
    thinking: str = ""
    refusal: str = ""
    calls: tuple[Mapping[str, object], ...] = ()

    def __add__(self, other: "Pieces") -> "Pieces":
        return Pieces(
            self.content + other.content,
            self.thinking + other.thinking,
            self.refusal + other.refusal,
            self.calls + other.calls,
        )


def pieces_of(content: object) -> Pieces:
    """Parses a `content` field; null and unknown forms give empty pieces."""
    if isinstance(content, str):
        return Pieces(content=content)
    if isinstance(content, list):
        return sum(map(pieces_of, content), Pieces())
    if not isinstance(content, Mapping):
        return Pieces()
    kind = content.get("type")
    if kind == "refusal":
        return Pieces(refusal=_text(content, ("refusal", *_TEXT_KEYS)))
    if kind in _CALL_PARTS:
        return Pieces(calls=(content,))
    if kind in _THINKING_PARTS:
        return Pieces(thinking=_text(content, _THOUGHT_KEYS))
    return Pieces(content=_text(content, _TEXT_KEYS)) if kind in _TEXT_PARTS else Pieces()


def thinking_of(part: Mapping[str, object]) -> str:
    """Returns the reasoning in the fields beside the content."""
    found = (_text_of(part.get(name), _THOUGHT_KEYS, _DEPTH) for name in _REASONING)
    return next(filter(None, found), "")


def _text(part: Mapping[str, object], keys: tuple[str, ...]) -> str:
    return _text_of(part, keys, _DEPTH)


def _text_of(value: object, keys: tuple[str, ...], depth: int) -> str:
    """Returns the text of a value: itself, or that of the first non-empty field in `keys`."""
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "".join(_text_of(one, keys, depth - 1) for one in value)
    if depth and isinstance(value, Mapping):
        return next(filter(None, (_text_of(value.get(k), keys, depth - 1) for k in keys)), "")
    return ""
