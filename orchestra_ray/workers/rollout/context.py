"""Context policies: what the policy reads before each turn. There are two, chosen by name.

`transcript` (paper, section 2.2): one growing conversation; tool results are appended as turns.
The whole episode is one training sequence.
`rebuild` (the released code): every turn has a fresh prompt of two messages, made of the problem
and the results so far: documents, code with its output, attempts at an answer. Every turn is a
training sequence.

Both are pure functions of the group and its turn records, so that training, evaluation, the warm
start and serving render the same tokens.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestra_ray.config.enums import ContextPolicy
from orchestra_ray.config.schema import RolloutConfig
from orchestra_ray.core.records import GroupSpec
from orchestra_ray.data.catalogue.signatures import signatures
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.parsing import AskedCall


@dataclass(frozen=True, slots=True)
class Observation:
    """The result of one call. `code` is the program that was run, if any."""

    text: str
    by: str  # the alias of the tool or model called; "" if the call was faulty
    kind: str  # "model", "tool" or "fault"
    code: str | None = None


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """A turn of the policy: its calls, the observation of each, and the text before the calls."""

    calls: Sequence[AskedCall]
    observations: Sequence[Observation]
    said: str = ""


@dataclass(frozen=True, slots=True)
class Addition:
    """Ids to add before the next turn; `fresh`: whether they start a new sequence."""

    ids: Sequence[int]
    fresh: bool


class Context(Protocol):
    def before_turn(self, group: GroupSpec, turns: Sequence[TurnRecord]) -> Addition:
        """Returns the ids to add before the turn that follows `turns`."""
        ...

    def messages(self, group: GroupSpec, turns: Sequence[TurnRecord]) -> list[dict[str, Any]]:
        """Returns the whole context as chat messages, for policies behind an endpoint."""
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
        texts = [one.text for one in turns[-1].observations]
        return Addition(self.chat.observation(texts, self.limits.max_observation_tokens), False)

    def messages(self, group: GroupSpec, turns: Sequence[TurnRecord]) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = [{"role": "user", "content": _problem(group)}]
        for n, turn in enumerate(turns):
            ids = [f"call_{n}_{place}" for place in range(len(turn.calls))]
            calls = [_function_call(*pair) for pair in zip(ids, turn.calls, strict=True)]
            messages.append({"role": "assistant", "content": turn.said, "tool_calls": calls})
            for call_id, observation in zip(ids, turn.observations, strict=True):
                text = self.chat.cut_end(observation.text, self.limits.max_observation_tokens)
                messages.append({"role": "tool", "tool_call_id": call_id, "content": text})
        return messages


@dataclass(frozen=True, slots=True)
class Rebuild:
    """If the results exceed the prompt limit, the oldest are cut and the latest are kept."""

    chat: Chat
    limits: RolloutConfig
    submit: bool

    def before_turn(self, group: GroupSpec, turns: Sequence[TurnRecord]) -> Addition:
        known = self._known([one for turn in turns for one in turn.observations])
        prompt, room = self._prompt(group, known), len(self.chat.encode_text(known))
        while known and (over := len(prompt) - self.limits.max_prompt_tokens) > 0:
            room -= over
            known = self.chat.cut_front(known, room)
            prompt = self._prompt(group, known)
        return Addition(prompt, True)

    def messages(self, group: GroupSpec, turns: Sequence[TurnRecord]) -> list[dict[str, Any]]:
        return self._messages(
            group, self._known([one for turn in turns for one in turn.observations])
        )

    def _prompt(self, group: GroupSpec, known: str) -> list[int]:
        functions = signatures(group.toolset, self.submit)
        return self.chat.opening(self._messages(group, known), functions)

    def _messages(self, group: GroupSpec, known: str) -> list[dict[str, Any]]:
        parts = [f"Problem: {_problem(group)}", known, self.limits.rebuild_instruction]
        return [
            {"role": "system", "content": self.limits.rebuild_system},
            {"role": "user", "content": "\n\n".join(filter(None, parts))},
        ]

    def _known(self, observations: Sequence[Observation]) -> str:
        programs = [one for one in observations if one.code is not None]
        documents = [one for one in observations if one.kind == "tool" and one.code is None]
        attempts = [one for one in observations if one.kind == "model"]
        faults = [one for one in observations if one.kind == "fault"][-1:]
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
    """Returns the question followed by the preference instruction."""
    return "\n\n".join(filter(None, (group.task.question, group.preference.instruction)))


def _function_call(call_id: str, call: AskedCall) -> dict[str, Any]:
    function = {"name": call.name or "unreadable", "arguments": json.dumps(call.arguments)}
    return {"id": call_id, "type": "function", "function": function}
