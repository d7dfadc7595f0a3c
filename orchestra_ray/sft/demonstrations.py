"""Demonstrations for the warm start: what the prompt says in the thought, then a random choice.

The thought lists who is good at what and who is good at the task's topic, and says the user's
instruction again. It ends with what is asked and its role: named by the topic, a generalist by its
own word, a tool, or another. Every role on offer is as likely. So a demonstration never tells what
to choose, and the policy can choose by role and instruction, which hold for every draw. Specialists
have other strengths in each demonstration: what is learned is to read, and not who is who.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

from orchestra_ray.config.schema import Config
from orchestra_ray.core.records import GroupSpec, Preference, Task, ToolOption, ToolsetSample
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.catalogue import Catalogue, Entry, model_aliases, sample_toolset
from orchestra_ray.data.catalogue.signatures import ASK, SUBMIT, signatures
from orchestra_ray.data.tasks.reasoning_gym import TaskSource, reference
from orchestra_ray.sft.tool_scripts import ToolScripts
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.context import Context, Observation, TurnRecord, context_of
from orchestra_ray.workers.rollout.parsing import CALL, END_OF_CALL, call_json, write_hermes
from orchestra_ray.workers.tools.builtin.simulated import plausible_wrong_answer

ASK_AGAIN = 0.15  # how often a demonstration asks once more
FAULTY_CALL = 0.15  # how often it starts with a call that fails, which is not learned
WRONG_REPLY = 0.3  # how often a reply is a wrong one
TWO_STRENGTHS = 0.3  # how often a specialist is good at a second topic
CALCULATOR = "calculator"


@dataclass(frozen=True, slots=True)
class Demonstration:
    """Ids of what the policy reads and says, and which of them it is to learn to say."""

    tokens: list[int]
    spoken: list[bool]

    def __len__(self) -> int:
        return len(self.tokens)


class Conversation:
    """A demonstration in the making: one sequence, or one a turn, as the context policy has it."""

    def __init__(self, context: Context, group: GroupSpec):
        self._context, self._group = context, group
        self._turns: list[TurnRecord] = []
        self.sequences: list[Demonstration] = []

    def say(self, ids: list[int], own: bool) -> None:
        """A turn of the policy, after what it reads before; `own` is what it is to learn."""
        addition = self._context.before_turn(self._group, self._turns)
        if addition.fresh:
            self.sequences.append(Demonstration([], []))
        sequence = self.sequences[-1]
        sequence.tokens.extend([*addition.ids, *ids])
        sequence.spoken.extend([False] * len(addition.ids) + [own] * len(ids))

    def hear(self, heard: Observation) -> None:
        self._turns.append(TurnRecord((), (heard,)))


@dataclass(frozen=True, slots=True)
class Asked:
    """A choice in the thought's words, the call's JSON, the reply; whether that is an answer."""

    choice: str
    call: str
    heard: Observation
    answers: bool


class Demonstrator:
    """Makes demonstration n from the training tasks; a pure function of n."""

    def __init__(self, config: Config, catalogue: Catalogue, preferences: Sequence[Preference]):
        self._source = TaskSource.train(config.tasks)
        self._topics: Mapping[str, str] = {f.name: f.topic for f in config.tasks.families}
        self._config, self._catalogue, self._preferences = config, catalogue, preferences
        self._scripts = ToolScripts(catalogue)
        models = catalogue.offered_models
        generalists = [one.description.split()[0] for one in models if is_generalist(one)]
        self._known_topics = sorted({topic for topic in self._topics.values() if topic})
        # All of them in each thought, in this order: so the tiny model learns to look them up.
        self._words = [*filter(None, dict.fromkeys(self._topics.values())), *generalists]

    def group(self, n: int) -> GroupSpec:
        """A task from the far end of the training range, where training itself comes last."""
        seed = derive_seed(self._config.model.tiny.seed if self._config.model.tiny else 0, n)
        rng = random.Random(seed)
        i = self._source.size - 1 - rng.randrange(self._source.size // 2)
        task = self._source.make(n % len(self._source.families), i)
        sampled = sample_toolset(self._catalogue, self._config.catalogue, seed)
        toolset = with_other_strengths(sampled, self._known_topics, rng)
        return GroupSpec(f"demo/{n}", 0, task, toolset, rng.choice(self._preferences), ())

    def make(self, chat: Chat, n: int) -> list[Demonstration]:
        """The sequences of demonstration n in which there is something to learn."""
        group, rng = self.group(n), random.Random(derive_seed("demonstration", n))
        submit = self._config.catalogue.submit
        talk = Conversation(context_of(chat, self._config.rollout, submit), group)
        thought, asked = self._think(group), []
        if rng.random() < FAULTY_CALL:
            choice, call, error = self._faulty(group.toolset, rng)
            talk.say(write_hermes(chat, calls=[call], thought=f"{thought} {choice}"), False)
            talk.hear(Observation(error, "", "fault"))
        while not any(one.answers for one in asked) or rng.random() < ASK_AGAIN:
            one = self._choose(group.task, group.toolset, rng)
            asked.append(one)
            talk.say(write_hermes(chat, calls=[one.call], thought=f"{thought} {one.choice}"), True)
            talk.hear(one.heard)
        chosen = rng.choice([i for i, one in enumerate(asked) if one.answers])
        said = "" if submit else asked[chosen].heard.text
        calls = [call_json(SUBMIT, {"reply": chosen + 1})] if submit else []
        talk.say(write_hermes(chat, said, calls, thought=""), True)
        return [sequence for sequence in talk.sequences if any(sequence.spoken)]

    def _faulty(self, toolset: ToolsetSample, rng: random.Random) -> tuple[str, str, str]:
        """(choice, call, observation) for a model that is not on offer, or no expression."""
        known = model_aliases(self._catalogue, self._config.catalogue)
        absent = [name for name in known if toolset.option(name) is None]
        if absent and rng.random() < 0.5:
            name = rng.choice(absent)
            there = ", ".join(o.alias for o in toolset.options if o.kind == "model")
            error = f"error: there is no model {name}; choose from: {there}"
            return f"other: {name}", call_json(ASK, {"model": name}), error
        call = call_json(CALCULATOR, {"expression": ""})
        return f"tool: {CALCULATOR}", call, "error: not an arithmetic expression"

    def texts(self, n: int) -> list[str]:
        """What demonstration n is made of, as plain text for the tokenizer to learn from."""
        group, rng = self.group(n), random.Random(derive_seed("demonstration", n))
        functions = [signature["function"] for signature in signatures(group.toolset, True)]
        described = [f"{f['name']}: {f['description']}" for f in functions]
        tables = [p.get("description", "") for f in functions for p in _properties(f)]
        one = self._choose(group.task, group.toolset, rng)
        thought = f"{self._think(group)} {one.choice}"
        request = f"{group.task.question}\n\n{group.preference.instruction}"
        written = (one.call, call_json(SUBMIT, {"reply": 1}))
        calls = [f"{CALL.text}\n{call}\n{END_OF_CALL.text}" for call in written]
        return [request, *described, *tables, thought, calls[0], one.heard.text, calls[1]]

    def _think(self, group: GroupSpec) -> str:
        return think(group, self._topics[group.task.family], self._words)

    def _choose(self, task: Task, toolset: ToolsetSample, rng: random.Random) -> Asked:
        """An offer of a random role, of those that are of any use to the task."""
        topic = self._topics[task.family]
        scripts = {
            o.alias: self._scripts.script(o, task, topic) for o in toolset.options if is_tool(o)
        }
        useful = [o for o in toolset.options if not is_tool(o) or scripts[o.alias]]
        chosen = rng.choice(list(dict.fromkeys(role(o, topic) for o in useful)))
        option = rng.choice([o for o in useful if role(o, topic) == chosen])
        choice = f"{chosen}: {option.alias}"
        script = scripts.get(option.alias)
        if script is not None:
            call = call_json(option.alias, script.arguments)
            heard = Observation(
                script.reply, option.alias, option.kind, script.arguments.get("code")
            )
            return Asked(choice, call, heard, script.answers)
        wrong = rng.random() < WRONG_REPLY
        reply = plausible_wrong_answer(task, rng) if wrong else reference(task)
        heard = Observation(reply, option.alias, option.kind)
        return Asked(choice, call_json(ASK, {"model": option.alias}), heard, True)


def _properties(function: Mapping[str, Any]) -> list[Mapping[str, str]]:
    return list(function["parameters"]["properties"].values())


def think(group: GroupSpec, topic: str, words: Sequence[str]) -> str:
    """What the prompt says: who is good at each of `words`, who at the topic, the user's wish.

    The wish ends it, without its stop: so its last word stands right before the choice.
    """
    models = [option for option in group.toolset.options if option.kind == "model"]

    def known(word: str) -> str:
        return f"{word}: {', '.join(o.alias for o in models if names(o, word)) or 'none'}"

    listed = "; ".join(map(known, words))
    return f"good at {listed}\nnamed {known(topic)}\n{group.preference.instruction.rstrip('.')}"


def with_other_strengths(
    toolset: ToolsetSample, topics: Sequence[str], rng: random.Random
) -> ToolsetSample:
    """The draw with the topics dealt anew to its specialists, now and then a second one to one."""
    dealt = cycle(rng.sample(topics, len(topics)))

    def other(option: ToolOption) -> ToolOption:
        if not any(names(option, topic) for topic in topics):
            return option
        found = [next(dealt), *(rng.choices(topics) if rng.random() < TWO_STRENGTHS else ())]
        return replace(option, description=", ".join(dict.fromkeys(found)))

    return replace(toolset, options=tuple(map(other, toolset.options)))


def names(option: ToolOption, topic: str) -> bool:
    """Whether the offer's description names the topic; nobody is named by a family without one."""
    return bool(topic and re.search(rf"\b{re.escape(topic)}\b", option.description))


def is_generalist(option: ToolOption | Entry) -> bool:
    return option.description.endswith(" at all")


def is_tool(option: ToolOption) -> bool:
    return option.kind == "tool"


def role(option: ToolOption, topic: str) -> str:
    """What an offer is to a task of this topic."""
    if is_tool(option):
        return "tool"
    if names(option, topic):
        return f"named {topic}"
    return option.description.split()[0] if is_generalist(option) else "other"
