"""Checks that incremental rendering equals the model's own chat template.

A conversation of two turns with thoughts, calls and results is rendered twice: as a whole by the
template and tokenizer of the model's folder, and piece by piece as in an episode. The ids must be
equal. Two differences are by design and excluded: empty thoughts, and all thoughts if the template
does not repeat earlier ones.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.parsing import (
    MARKS,
    THINK,
    call_json,
    opens_thought,
    write_hermes,
)

NEVER_CUT = 10_000  # tokens of a result
SHOWN_TOKENS, SHOWN_CHARACTERS = 12, 60
_FUNCTION = {
    "name": "lookup",
    "description": "looks a word up",
    "parameters": {
        "type": "object",
        "properties": {
            "word": {"type": "string", "description": "the word"},
            "language": {"type": "string"},
        },
        "required": ["word"],
    },
}
_TOOLS: Sequence[Mapping[str, Any]] = [{"type": "function", "function": _FUNCTION}]
_QUESTION = {"role": "user", "content": "What do red, green and blue mean?"}


@dataclass(frozen=True, slots=True)
class _Turn:
    """A turn of the policy and the results of its calls."""

    thought: str | None
    said: str
    words: tuple[str, ...]
    results: tuple[str, ...]

    @property
    def calls(self) -> list[Mapping[str, Any]]:
        return [{"name": "lookup", "arguments": {"word": word}} for word in self.words]


_TURNS = (
    _Turn("I begin with red.", "First one.", ('"red" & rosé',), (' A <b>colour</b> & "more"\n',)),
    _Turn("Two are left.", "Now the others.", ("green", "blue"), ("grass", "the sky")),
)


def check_template(chat: Chat, path: str, system: str | None = None) -> None:
    """Raises `ConfigError` with the first difference, or the defect of tokenizer or template.

    system: the system message of the context policy, if it has one.
    """
    chat.require(MARKS)
    _check_shown(chat, path, system)
    turns, theirs = _as_the_template_does(chat)
    ours = _as_an_episode_does(chat, turns)
    if ours != theirs:
        raise ConfigError(f"model.path: {path}: {_difference(chat, ours, theirs)}")
    _check_content(chat, path)


def _check_shown(chat: Chat, path: str, system: str | None) -> None:
    """Raises `ConfigError` if the template omits the functions or the system message."""
    first = [] if system is None else [{"role": "system", "content": system}]
    text = chat.render([*first, _QUESTION], _TOOLS)
    for what, wanted in (("functions", _FUNCTION["name"]), ("system message", system or "")):
        if str(wanted) not in text:
            raise ConfigError(
                f"model.path: {path}: its chat template does not show the {what}; "
                "use a model whose template does"
            )


def _as_the_template_does(chat: Chat) -> tuple[Sequence[_Turn], list[int]]:
    """Returns the turns as the template repeats them, and the ids of the conversation."""
    for inline in (False, True):
        text = chat.render(_messages(_TURNS, inline), _TOOLS)
        if all(turn.thought in text for turn in _TURNS if turn.thought):
            return _TURNS, chat.own_ids(text)
    # A turn without text begins with a control token, so what precedes it does not matter.
    bare = [replace(turn, thought=None, said="") for turn in _TURNS]
    return bare, chat.own_ids(chat.render(_messages(bare, inline=False), _TOOLS))


def _messages(turns: Sequence[_Turn], inline: bool) -> list[Mapping[str, Any]]:
    """Returns the conversation, with thoughts in the content or in their own field."""
    messages: list[Mapping[str, Any]] = [_QUESTION]
    for turn in turns:
        calls = [{"type": "function", "function": call} for call in turn.calls]
        message = {"role": "assistant", "content": turn.said, "tool_calls": calls}
        if turn.thought is not None and inline:
            message["content"] = f"<think>\n{turn.thought}\n</think>\n\n{turn.said}"
        elif turn.thought is not None:
            message["reasoning_content"] = turn.thought
        messages.append(message)
        messages += [{"role": "tool", "content": text, "name": "lookup"} for text in turn.results]
    return messages


def _as_an_episode_does(chat: Chat, turns: Sequence[_Turn]) -> list[int]:
    ids = chat.opening([_QUESTION], _TOOLS)
    for turn in turns:
        opened = opens_thought(chat) and turn.thought is not None
        if (
            opens_thought(chat) and not opened
        ):  # the template drops this part together with the thought
            prompt = chat.generation_prompt
            del ids[-len(chat.encode_response(prompt[prompt.rindex(THINK.text) :])) :]
        calls = [call_json(call["name"], call["arguments"]) for call in turn.calls]
        ids += write_hermes(chat, turn.said, calls, turn.thought, opened)
        ids += chat.observation(turn.results, NEVER_CUT)
    return ids


def _difference(chat: Chat, ours: Sequence[int], theirs: Sequence[int]) -> str:
    pairs = enumerate(zip(ours, theirs, strict=False))
    at = next((n for n, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
    before = chat.decode(ours[max(0, at - SHOWN_TOKENS) : at])[-SHOWN_CHARACTERS:]
    template, episode = (
        chat.decode(ids[at : at + SHOWN_TOKENS])[:SHOWN_CHARACTERS] for ids in (theirs, ours)
    )
    return (
        f"its chat template does not fit model.chat_template: after {before!r} it writes "
        f"{template!r} and an episode {episode!r}; use a model of that family"
    )


def _check_content(chat: Chat, path: str) -> None:
    """Raises `ConfigError` if content that spells control tokens is not preserved as text."""
    spelled = " ".join(chat.control_ids)
    function = {**_FUNCTION, "description": spelled}
    forged = chat.opening(
        [{"role": "user", "content": spelled}], [{"type": "function", "function": function}]
    )
    honest = chat.opening([{"role": "user", "content": "x"}], _TOOLS)
    control = set(chat.control_ids.values())
    as_text = chat.decode(forged).count(spelled) == 2
    if not as_text or [i for i in forged if i in control] != [i for i in honest if i in control]:
        raise ConfigError(
            f"model.path: {path}: its chat template changes text that spells control tokens; "
            "use a model whose template writes content as it is"
        )
