"""What the policy reads before each of its turns: two context policies, chosen by name.

`transcript` (the paper, section 2.2): one conversation that grows; what tools say enters it as a
turn of its own. The whole episode is one training sequence.
`rebuild` (the released code): every turn is a fresh prompt of two messages, made of the problem and
of what is known so far: documents, code with its output, attempts at an answer. Every turn is a
training sequence.

Both are pure functions of the group and of what was heard, so that training, evaluation, the warm
start and serving render the same tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestra_ray.catalogue.signatures import signatures
from orchestra_ray.config.schema import ContextPolicy, RolloutConfig
from orchestra_ray.core.records import GroupSpec
from orchestra_ray.rollout.chat import Chat


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back for one call. `code` is the program that it ran, where it ran one."""

    text: str
    by: str  # the alias of what was called; "" where the call was faulty
    kind: str  # "model", "tool" or "fault"
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Addition:
    """Ids before the policy's next turn; `fresh` where a new sequence starts with them."""

    ids: Sequence[int]
    fresh: bool


class Context(Protocol):
    def before_turn(self, group: GroupSpec, turns: Sequence[Sequence[Heard]]) -> Addition:
        """`turns` are the calls of each turn before this one, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Transcript:
    chat: Chat
    limits: RolloutConfig
    submit: bool

    def before_turn(self, group: GroupSpec, turns: Sequence[Sequence[Heard]]) -> Addition:
        if not turns:
            return Addition(_opening(self.chat, group, self.submit, _problem(group)), True)
        text = "\n".join(heard.text for heard in turns[-1])
        return Addition(self.chat.observation(text, self.limits.max_observation_tokens), False)


@dataclass(frozen=True, slots=True)
class Rebuild:
    """Of what does not fit into the prompt's limit the front is lost, so that the latest stays."""

    chat: Chat
    limits: RolloutConfig
    submit: bool

    def before_turn(self, group: GroupSpec, turns: Sequence[Sequence[Heard]]) -> Addition:
        known = self._known([heard for turn in turns for heard in turn])
        prompt, room = self._prompt(group, known), len(self.chat.encode_text(known))
        while known and (over := len(prompt) - self.limits.max_prompt_tokens) > 0:
            room -= over
            known = self.chat.cut_front(known, room)
            prompt = self._prompt(group, known)
        return Addition(prompt, True)

    def _prompt(self, group: GroupSpec, known: str) -> list[int]:
        parts = [f"Problem: {_problem(group)}", known, self.limits.rebuild_instruction]
        content = "\n\n".join(filter(None, parts))
        return _opening(self.chat, group, self.submit, content, self.limits.rebuild_system)

    def _known(self, heard: Sequence[Heard]) -> str:
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


def _opening(
    chat: Chat, group: GroupSpec, submit: bool, content: str, system: str = ""
) -> list[int]:
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": content})
    return chat.opening(messages, signatures(group.draw, submit))
