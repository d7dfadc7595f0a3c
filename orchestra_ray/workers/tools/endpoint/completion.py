"""Parsing a chat completion: unchecked JSON into a text or a policy's turn, and the usage.

The answer of a model that acts as the policy is a `PolicyTurn`, which separates calls from text, so
a marker inside an argument or the answer is plain text. If the server has no tool-call parser, the
markers are in the content and are parsed here, by the rules of the local policies.

docs/tools.md lists the supported dialects. `content` parses content and reasoning, `tool_calls` the
calls, `usage` the usage. A complete body and any chunking of the same answer give the same result.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum

from orchestra_ray.core.money import Usage
from orchestra_ray.core.token_count import Count, tokens
from orchestra_ray.workers.tools.endpoint.content import Pieces, pieces_of, thinking_of
from orchestra_ray.workers.tools.endpoint.tool_calls import FunctionCalls
from orchestra_ray.workers.tools.endpoint.usage import merged, usage_of, usages_in

THINK, END_OF_THINKING = "<think>", "</think>"
CALL, END_OF_CALL = "<tool_call>", "</tool_call>"
_NONE = Usage()


class Unreadable(ValueError):
    """The answer is not a chat completion; the text says what is wrong."""


class ErrorInAnswer(Exception):
    """The server reports an error instead of an answer or inside it. `error` is its JSON."""

    def __init__(self, error: object):
        super().__init__("the answer is an error")
        self.error = error


class Ending(Enum):
    """How an answer ended, by its finish reason."""

    COMPLETE = "complete"
    CUT = "cut"  # at a token limit
    FILTERED = "filtered"
    FAILED = "failed"  # an error of the server
    UNKNOWN = "unknown"


_ENDINGS: Mapping[Ending, Sequence[str]] = {
    Ending.COMPLETE: (
        *("stop", "tool_calls", "tool_call", "function_call", "tool_use", "end_turn"),
        *("stop_sequence", "eos", "eos_token", "complete", "completed", "finished"),
    ),
    Ending.CUT: (
        *("length", "max_tokens", "max_output_tokens", "max_length", "model_length"),
        "model_context_window_exceeded",
    ),
    Ending.FILTERED: (
        *("content_filter", "content_filtered", "safety", "refusal", "sensitive", "recitation"),
        *("blocklist", "prohibited_content", "spii", "guardrail_intervened"),
    ),
    Ending.FAILED: (
        *("error", "abort", "aborted", "cancelled", "canceled", "failed", "timeout"),
        *("insufficient_system_resource", "network_error", "internal_error", "server_error"),
    ),
}
_ENDING_OF = {reason: ending for ending, reasons in _ENDINGS.items() for reason in reasons}


@dataclass(frozen=True, slots=True)
class PolicyTurn:
    """The text, tool calls and reasoning of one turn. `calls`: JSON, which may be malformed."""

    said: str
    calls: tuple[str, ...] = ()
    thought: str | None = None

    def map(self, change: Callable[[str], str]) -> "PolicyTurn":
        """Returns a turn with `change` applied to each part separately."""
        thought = None if self.thought is None else change(self.thought)
        return PolicyTurn(change(self.said), tuple(map(change, self.calls)), thought)

    def dump(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def load(text: str) -> "PolicyTurn":
        """Parses the text of `dump`; raises ValueError or TypeError for any other."""
        fields = json.loads(text)
        return PolicyTurn(fields["said"], tuple(fields["calls"]), fields["thought"])


@dataclass(slots=True)
class Answer:
    """One answer, built from a complete body or from the chunks of a stream.

    Of several choices, only that with the lowest index in the first piece is read.
    """

    content: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: FunctionCalls = field(default_factory=FunctionCalls)
    finish_reason: str | None = None
    figures: Mapping[str, object] = field(default_factory=dict)
    _choice: int | None = None  # index of the choice that is read
    _has_deltas: bool = False

    @property
    def started(self) -> bool:
        return bool(self.content or self.thinking or self.refusal or self.calls.items)

    @property
    def ending(self) -> Ending:
        """Without a finish reason, COMPLETE: some servers give none in a complete body."""
        if self.finish_reason is None:
            return Ending.COMPLETE
        return _ENDING_OF.get(self.finish_reason.rpartition(".")[2].lower(), Ending.UNKNOWN)

    def add(self, piece: object) -> None:
        """Adds a body or a chunk of a stream.

        Raises `Unreadable` if it is neither, and `ErrorInAnswer` if it reports an error.
        """
        if not isinstance(piece, Mapping):
            raise Unreadable("it is not a JSON object")
        usage = list(usages_in(piece))
        for figures in usage:
            self.figures = merged(self.figures, figures)
        error = _error_in(piece)
        if error is not None:
            raise ErrorInAnswer(error)
        choices = piece.get("choices")
        if not isinstance(choices, list):
            if not usage:
                raise Unreadable("it has no choices")
            choices = []
        choice = self._selected(choices)
        if choice is None:
            return  # a chunk may hold only usage
        if choice.get("error"):
            raise ErrorInAnswer(choice["error"])
        self._add(choice)

    def _selected(self, choices: Sequence[object]) -> Mapping[str, object] | None:
        """Returns the choice to read, None if the piece does not contain it."""
        by_index: dict[int, Mapping[str, object]] = {}
        for choice in choices:
            if not isinstance(choice, Mapping):
                raise Unreadable("its choice is not a JSON object")
            index = choice.get("index")
            by_index.setdefault(index if isinstance(index, int) else 0, choice)
        if self._choice is None and by_index:
            self._choice = min(by_index)
        return None if self._choice is None else by_index.get(self._choice)

    def _add(self, choice: Mapping[str, object]) -> None:
        part, is_whole = self._part(choice)
        said = pieces_of(part.get("content")) if part else Pieces(content=_text(choice, "text"))
        for texts, text in (
            (self.content, said.content),
            (self.thinking, said.thinking or thinking_of(part)),
            (self.refusal, said.refusal + _text(part, "refusal")),
        ):
            if text:
                texts.append(text)
        try:
            self.calls.add(part, said.calls, is_whole)
        except TypeError:
            raise Unreadable("its tool call is not a JSON object") from None
        reason = choice.get("finish_reason")
        if isinstance(reason, Mapping):  # SGLang's own form
            reason = reason.get("type")
        self.finish_reason = reason if isinstance(reason, str) and reason else self.finish_reason

    def _part(self, choice: Mapping[str, object]) -> tuple[Mapping[str, object], bool]:
        """Returns the delta or message of a choice, and whether it is a message.

        Some servers send both: in a stream the message repeats the deltas, and in a complete body
        the delta is empty.
        """
        delta, message = _object(choice, "delta"), _object(choice, "message")
        has_content = any(value for key, value in delta.items() if key != "role")
        self._has_deltas = self._has_deltas or has_content
        return (delta, False) if self._has_deltas or not message else (message, True)

    def text(self, strip_thinking: bool) -> str:
        """Returns the answer, with or without the reasoning before it."""
        content, thinking = "".join(self.content), "".join(self.thinking)
        if strip_thinking:
            return (content if thinking else split_thinking(content)[1]).strip()
        before = f"{THINK}\n{thinking}\n{END_OF_THINKING}\n\n" if thinking else ""
        return (before + content).strip()

    def turn(self, strip_thinking: bool) -> PolicyTurn:
        """Returns the answer as a turn of the policy."""
        thought, said = "".join(self.thinking) or None, "".join(self.content)
        if thought is None:
            thought, said = split_thinking(said)
        calls = self.calls.as_json()
        if not calls:
            said, calls = split_calls(said)
        kept = None if strip_thinking or thought is None else thought.strip("\n")
        return PolicyTurn(said.strip(), tuple(calls), kept)

    def usage(self, most: Usage, otherwise: Usage = _NONE) -> Usage:
        """Returns the reported usage, with each implausible figure taken from `otherwise`."""
        return usage_of(self.figures, most, otherwise)

    def estimate(self, sent: str, most: Usage, count: Count = tokens) -> Usage:
        """Estimates the usage from the text sent and the text received."""
        received = (*self.content, *self.thinking, *self.refusal, *self.calls.texts())
        return Usage(
            input_tokens=min(count(sent), most.input_tokens),
            output_tokens=min(count("".join(received)), most.output_tokens),
        )


def split_thinking(text: str) -> tuple[str | None, str]:
    """Splits `text` into its leading reasoning, None if there is none, and the rest.

    Some chat templates open the reasoning in the prompt, so that only its end marker is in the
    answer; a call before that marker shows that there was no reasoning. Reasoning ends at its first
    end marker; if it is opened and not closed, the rest is empty.
    """
    opened = text.lstrip().startswith(THINK)
    before, end, after = text.partition(END_OF_THINKING)
    if end and (opened or not (THINK in before or CALL in before)):
        return before.lstrip().removeprefix(THINK), after
    return (text.lstrip().removeprefix(THINK), "") if opened else (None, text)


def split_calls(text: str) -> tuple[str, list[str]]:
    """Returns the text before the first call in Hermes format, and the JSON of each call.

    A call ends where its JSON does, so a string in it may contain the end marker. A marker without
    a JSON object after it is plain text.
    """
    decoder, said, calls, place = json.JSONDecoder(), text, [], 0
    while (start := text.find(CALL, place)) >= 0:
        place = start + len(CALL)
        body = text[place:].lstrip()
        if not body.startswith("{"):
            continue
        try:
            length = decoder.raw_decode(body)[1]
        except (ValueError, RecursionError):
            length = body.find(END_OF_CALL)
        said = said if calls else text[:start]
        calls.append(body if length < 0 else body[:length].rstrip())
        place = len(text) if length < 0 else len(text) - len(body) + length
    return said, calls


def _error_in(piece: Mapping[str, object]) -> object | None:
    """Returns the error that a body or chunk reports, None if it reports none."""
    error = piece.get("error")
    is_error = "error" in (piece.get("object"), piece.get("type"))
    if error is True or (is_error and not error):
        return piece
    if isinstance(error, Mapping):
        return error if any(error.values()) else None
    if error:
        return error
    has_code = any(piece.get(name) for name in ("code", "status", "status_code"))
    has_words = any(piece.get(name) for name in ("message", "msg", "detail"))
    return piece if "choices" not in piece and has_code and has_words else None


def _text(holder: Mapping[str, object], key: str) -> str:
    value = holder.get(key)
    return value if isinstance(value, str) else ""


def _object(holder: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = holder.get(key)
    return value if isinstance(value, Mapping) else {}
