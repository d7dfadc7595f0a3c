"""What a chat endpoint answered: unchecked JSON, made into a text or a policy's turn, and usage.

What a model says as the policy is a `PolicyTurn`, which keeps its calls apart from its words: a
mark that stands in an argument or in the answer stays a part of it. A server without a parser of
its own sends the marks in the content; then they are read here, by the policy's own rules.

A count of input or output tokens is believed where it is a whole number from 1 to the most that the
request allows. Any other, and one that is missing, is estimated from the characters of what was
sent or came back, up to that same most. Cached tokens beyond the input and reasoning tokens beyond
the output count as none, so that the tokens they are part of are billed like the others.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

from orchestra_ray.core.money import Usage

CHARACTERS_PER_TOKEN = 4
THINK, END_OF_THINKING = "<think>", "</think>"
CALL, END_OF_CALL = "<tool_call>", "</tool_call>"
_NONE = Usage()


class Unreadable(ValueError):
    """The answer has not the form of a chat completion; the text says where."""


@dataclass(slots=True)
class AskedFunction:
    """A function that the model calls, as far as it has come."""

    name: list[str] = field(default_factory=list)
    arguments: list[str] = field(default_factory=list)  # JSON, as the model wrote it

    def as_json(self) -> str:
        """As a policy of ours would have written it; arguments that are no JSON as they came."""
        name, arguments = "".join(self.name), "".join(self.arguments) or "{}"
        try:
            return json.dumps({"name": name, "arguments": json.loads(arguments)})
        except (ValueError, RecursionError):
            # The name stays first: what cannot be read must not become another call.
            return f'{{"name": {json.dumps(name)}, "arguments": {json.dumps(arguments)}'


@dataclass(frozen=True, slots=True)
class PolicyTurn:
    """What a model said as the policy. `calls`: the JSON of each, which may be malformed."""

    said: str
    calls: tuple[str, ...] = ()
    thought: str | None = None

    def map(self, change: Callable[[str], str]) -> "PolicyTurn":
        """With every part changed by itself."""
        thought = None if self.thought is None else change(self.thought)
        return PolicyTurn(change(self.said), tuple(map(change, self.calls)), thought)

    def dump(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False)

    @staticmethod
    def load(text: str) -> "PolicyTurn":
        """Raises ValueError or TypeError if `text` is not what `dump` made."""
        fields = json.loads(text)
        return PolicyTurn(fields["said"], tuple(fields["calls"]), fields["thought"])


@dataclass(slots=True)
class Answer:
    """One answer, gathered from a whole body or from the chunks of a stream."""

    content: list[str] = field(default_factory=list)
    thinking: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: dict[int, "AskedFunction"] = field(default_factory=dict)  # by their place
    finish_reason: str | None = None
    figures: Mapping[str, object] = field(default_factory=dict)

    @property
    def started(self) -> bool:
        return bool(self.content or self.thinking or self.refusal or self.calls)

    def add(self, piece: object) -> None:
        """Takes in a body, or a chunk of a stream; `Unreadable` where it is neither."""
        if not isinstance(piece, Mapping):
            raise Unreadable("it is not a JSON object")
        self.figures = _object(piece, "usage") or self.figures
        choices = piece.get("choices")
        if not isinstance(choices, list):
            raise Unreadable("it has no choices")
        if not choices:
            return  # the chunk that ends a stream holds usage alone
        if not isinstance(choices[0], Mapping):
            raise Unreadable("its choice is not a JSON object")
        self._add(choices[0])

    def _add(self, choice: Mapping[str, object]) -> None:
        part = _object(choice, "message") or _object(choice, "delta")
        thinking = part.get("reasoning_content") or part.get(
            "reasoning"
        )  # servers name it so or so
        pieces = (part.get("content"), thinking, part.get("refusal"))
        for texts, piece in zip((self.content, self.thinking, self.refusal), pieces, strict=True):
            if isinstance(piece, str) and piece:
                texts.append(piece)
        asked = part.get("tool_calls")
        for place, call in enumerate(asked if isinstance(asked, list) else []):
            self._add_call(place, call)
        reason = choice.get("finish_reason")
        self.finish_reason = reason if isinstance(reason, str) else self.finish_reason

    def _add_call(self, place: int, piece: object) -> None:
        """A call, or a chunk of one: a stream tells its place, its name and arguments in parts."""
        if not isinstance(piece, Mapping):
            raise Unreadable("its tool call is not a JSON object")
        index, function = piece.get("index"), _object(piece, "function")
        call = self.calls.setdefault(index if isinstance(index, int) else place, AskedFunction())
        for texts, key in ((call.name, "name"), (call.arguments, "arguments")):
            value = function.get(key)
            if isinstance(value, str):
                texts.append(value)

    def text(self, strip_thinking: bool) -> str:
        """What the model said, with or without what it thought before."""
        content, thinking = "".join(self.content), "".join(self.thinking)
        if strip_thinking:
            return (content if thinking else split_thinking(content)[1]).strip()
        before = f"{THINK}\n{thinking}\n{END_OF_THINKING}\n\n" if thinking else ""
        return (before + content).strip()

    def turn(self, strip_thinking: bool) -> PolicyTurn:
        """What the model said as the policy."""
        thought, said = "".join(self.thinking) or None, "".join(self.content)
        if thought is None:
            thought, said = split_thinking(said)
        calls = [call.as_json() for _, call in sorted(self.calls.items())]
        if not calls:
            said, calls = split_calls(said)
        kept = None if strip_thinking or thought is None else thought.strip("\n")
        return PolicyTurn(said.strip(), tuple(calls), kept)

    def usage(self, most: Usage, otherwise: Usage = _NONE) -> Usage:
        """What the server told of usage, each figure that cannot be believed from `otherwise`."""
        figures = self.figures
        given = _figure(figures, "prompt_tokens", 1, most.input_tokens)
        made = _figure(figures, "completion_tokens", 1, most.output_tokens)
        given = otherwise.input_tokens if given is None else given
        made = otherwise.output_tokens if made is None else made
        cached = _figure(_object(figures, "prompt_tokens_details"), "cached_tokens", 0, given)
        details = _object(figures, "completion_tokens_details")
        reasoned = _figure(details, "reasoning_tokens", 0, made)
        return Usage(given, cached or 0, made, reasoned or 0)

    def estimate(self, sent_characters: int, most: Usage) -> Usage:
        """Usage by the characters that were sent and that came back."""
        asked = (text for call in self.calls.values() for text in (*call.name, *call.arguments))
        texts = (*self.content, *self.thinking, *self.refusal, *asked)
        return Usage(
            input_tokens=min(tokens(sent_characters), most.input_tokens),
            output_tokens=min(tokens(sum(map(len, texts))), most.output_tokens),
        )


def tokens(characters: int) -> int:
    """About how many tokens so many characters of English are."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def split_thinking(text: str) -> tuple[str | None, str]:
    """The thinking that `text` begins with, None if there is none; and the rest.

    Some chat templates open the thinking in the prompt, so that only its end is in the answer; a
    call before that end shows that there was none. Thinking ends at its first end mark; without
    one it leaves nothing.
    """
    opened = text.lstrip().startswith(THINK)
    before, end, after = text.partition(END_OF_THINKING)
    if end and (opened or not (THINK in before or CALL in before)):
        return before.lstrip().removeprefix(THINK), after
    return (text.lstrip().removeprefix(THINK), "") if opened else (None, text)


def split_calls(text: str) -> tuple[str, list[str]]:
    """The words before the first call in Hermes form, and the JSON of each call.

    A call ends where its JSON does, so the end mark may stand in a string of it. A mark that no
    JSON object follows is a word like any other.
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


def _object(holder: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = holder.get(key)
    return value if isinstance(value, Mapping) else {}


def _figure(figures: Mapping[str, object], key: str, least: int, most: int) -> int | None:
    value = figures.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if least <= value <= most else None
