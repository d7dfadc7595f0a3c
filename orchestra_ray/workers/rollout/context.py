"""What the policy reads before each of its turns: two context policies, chosen by name.

`transcript` (the paper, section 2.2): one conversation that grows; what tools say enters it as a
turn of its own. The whole episode is one training sequence.
`rebuild` (the released code): every turn is a fresh prompt of two messages, made of the problem and
of what is known so far: documents, code with its output, attempts at an answer. Every turn is a
training sequence.

Both are pure functions of the group and of what was heard, so that training, evaluation, the warm
start and serving render the same tokens.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestra_ray.config.schema import ContextPolicy, RolloutConfig
from orchestra_ray.core.records import GroupSpec
from orchestra_ray.data.catalogue.signatures import signatures
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.parsing import AskedCall


@dataclass(frozen=True, slots=True)
class Observation:
    """What came back for one call. `code` is the program that it ran, where it ran one."""

    text: str
    by: str  # the alias of what was called; "" where the call was faulty
    kind: str  # "model", "tool" or "fault"
    code: str | None = None


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """A turn of the policy: the calls that it asked for, what came back for each, and its words."""

    asked: Sequence[AskedCall]
    heard: Sequence[Observation]
    said: str = ""


@dataclass(frozen=True, slots=True)
class Addition:
    """Ids before the policy's next turn; `fresh` where a new sequence starts with them."""

    ids: Sequence[int]
    fresh: bool


class Context(Protocol):
    def before_turn(self, group: GroupSpec, turns: Sequence[TurnRecord]) -> Addition:
        """`turns` are those before this one, in their order."""
        ...

    def messages(self, group: GroupSpec, turns: Sequence[TurnRecord]) -> list[dict[str, Any]]:
        """All that the policy reads before its turn, for a model that is given messages."""
        ...


@dataclass(frozen=True, slots=True)
class Transcript:
    chat: Chat
    limits: RolloutConfig
    submit: bool

    def before_turn(self, group: GroupSpec, turns: Sequence[TurnRecord]) -> Addition:
        if not turns:
            opening = self.messages(group, [])
            return Addition(
                self.chat.opening(opening, signatures(group.toolset, self.submit)), True
            )
        texts = [heard.text for heard in turns[-1].heard]
        return Addition(self.chat.observation(texts, self.limits.max_observation_tokens), False)

    def messages(self, group: GroupSpec, turns: Sequence[TurnRecord]) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = [{"role": "user", "content": _problem(group)}]
        for n, turn in enumerate(turns):
            ids = [f"call_{n}_{place}" for place in range(len(turn.asked))]
            calls = [_function_call(*pair) for pair in zip(ids, turn.asked, strict=True)]
            messages.append({"role": "assistant", "content": turn.said, "tool_calls": calls})
            for call_id, heard in zip(ids, turn.heard, strict=True):
                text = self.chat.cut_end(heard.text, self.limits.max_observation_tokens)
                messages.append({"role": "tool", "tool_call_id": call_id, "content": text})
        return messages


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Of what does not fit into the prompt's limit the front is lost, so that the latest stays."""

    chat: Chat
    limits: RolloutConfig
    submit: bool

    def before_turn(self, group: GroupSpec, turns: Sequence[TurnRecord]) -> Addition:
        known = self._known([heard for turn in turns for heard in turn.heard])
        prompt, room = self._prompt(group, known), len(self.chat.encode_text(known))
        while known and (over := len(prompt) - self.limits.max_prompt_tokens) > 0:
            room -= over
            known = self.chat.cut_front(known, room)
            prompt = self._prompt(group, known)
        return Addition(prompt, True)

    def messages(self, group: GroupSpec, turns: Sequence[TurnRecord]) -> list[dict[str, Any]]:
        return self._messages(group, self._known([h for turn in turns for h in turn.heard]))

    def _prompt(self, group: GroupSpec, known: str) -> list[int]:
        functions = signatures(group.toolset, self.submit)
        return self.chat.opening(self._messages(group, known), functions)

    def _messages(self, group: GroupSpec, known: str) -> list[dict[str, Any]]:
        parts = [f"Problem: {_problem(group)}", known, self.limits.rebuild_instruction]
        return [
            {"role": "system", "content": self.limits.rebuild_system},
            {"role": "user", "content": "\n\n".join(filter(None, parts))},
        ]

    def _known(self, heard: Sequence[Observation]) -> str:
        programs = [one for one in heard if one.code is not None]
        documents = [one for one in heard if one.kind == "tool" and one.code is None]
        attempts = [one for one in heard if one.kind == "model"]
        faults = [one for one in heard if one.kind == "fault"][-1:]
        sections = [
            *(["Documents:"] if documents else []),
            *(f"Doc {n}: {self._cut(one.text)}" for n, one in enumerate(documents, 1)),
            *(_program(one.code, self._cut(one.text)) for one in programs),
            *(
                f"Attempt{n} answer by {one.by}: {self._cut(one.text)}"
                for n, one in enumerate(attempts, 1)
            ),
            *(one.text for one in faults),
        ]
        return "\n\n".join(sections)

    def _cut(self, text: str) -> str:
        return self.chat.cut_end(text, self.limits.max_observation_tokens)


CONTEXTS: Mapping[ContextPolicy, type[Transcript] | type[Rebuild]] = {
    ContextPolicy.TRANSCRIPT: Transcript,
    ContextPolicy.REBUILD: Rebuild,
}


def context_of(chat: Chat, limits: RolloutConfig, submit: bool) -> Context:
    return CONTEXTS[limits.context](chat, limits, submit)


def _program(code: str | None, output: str) -> str:
    return f"```python\n{code}\n```\n\n```output\n{output}\n```"


def _problem(group: GroupSpec) -> str:
    """The task and, below it, what the user prefers."""
    return "\n\n".join(filter(None, (group.task.question, group.preference.instruction)))


def _function_call(call_id: str, asked: AskedCall) -> dict[str, Any]:
    function = {"name": asked.name or "unreadable", "arguments": json.dumps(asked.arguments)}
    return {"id": call_id, "type": "function", "function": function}
