"""The content of a message or a delta, in the forms that chat endpoints give it.

Content is a text, a part, or a list of parts: text, reasoning, a refusal, or a call. Reasoning may
stand beside it under several names, of which servers send two at once with the same words; the
first that says something counts.
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
_DEPTH = 8  # of parts in parts


@dataclass(frozen=True, slots=True)
class Pieces:
    """What a message or a delta says. `calls` are parts of the content that call a tool."""

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
    """What the value of `content` says; nothing if it is null or of an unknown form."""
    if isinstance(content, str):
        return Pieces(content=content)
    if isinstance(content, list):
        return sum(map(pieces_of, content), Pieces())
    if not isinstance(content, Mapping):
        return Pieces()
    kind = content.get("type")
    if kind == "refusal":
        return Pieces(refusal=_words(content, ("refusal", *_TEXT_KEYS)))
    if kind in _CALL_PARTS:
        return Pieces(calls=(content,))
    if kind in _THINKING_PARTS:
        return Pieces(thinking=_words(content, _THOUGHT_KEYS))
    return Pieces(content=_words(content, _TEXT_KEYS)) if kind in _TEXT_PARTS else Pieces()


def thinking_of(part: Mapping[str, object]) -> str:
    """The reasoning that stands beside the content."""
    found = (_words_of(part.get(name), _THOUGHT_KEYS, _DEPTH) for name in _REASONING)
    return next(filter(None, found), "")


def _words(part: Mapping[str, object], keys: tuple[str, ...]) -> str:
    return _words_of(part, keys, _DEPTH)


def _words_of(value: object, keys: tuple[str, ...], depth: int) -> str:
    """The text of a value: itself, or what the first of `keys` holds that has any."""
    if isinstance(value, str):
        return value
    if depth and isinstance(value, list):
        return "".join(_words_of(one, keys, depth - 1) for one in value)
    if depth and isinstance(value, Mapping):
        return next(filter(None, (_words_of(value.get(k), keys, depth - 1) for k in keys)), "")
    return ""
