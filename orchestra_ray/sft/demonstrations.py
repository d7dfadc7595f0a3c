"""Demonstrations for the warm start: a thought that repeats the prompt, then a random choice.

The thought lists the strengths of the models and the models that are good at the task's topic, and
repeats the user's instruction. It ends with the chosen option and its role: named by the topic, a
generalist by the word of its description, a tool, or other. Every role on offer is equally likely,
so a demonstration shows no preferred choice, and the policy can choose by role and instruction,
which apply to every toolset. Specialists have other strengths in each demonstration, so that the
model learns to read the prompt and not the names.
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

ASK_AGAIN = 0.15  # probability of one more call
FAULTY_CALL = 0.15  # probability of a failing first call, which is not trained
WRONG_REPLY = 0.3  # probability of a wrong reply
TWO_STRENGTHS = 0.3  # probability that a specialist has a second topic
CALCULATOR = "calculator"


@dataclass(frozen=True, slots=True)
class Demonstration:
    """Token ids of prompt and responses. `trained`: which of them are targets."""

    tokens: list[int]
    trained: list[bool]

    def __len__(self) -> int:
        return len(self.tokens)


class Conversation:
    """A demonstration under construction: one sequence, or one for each turn, by context policy."""

    def __init__(self, context: Context, group: GroupSpec):
        self._context, self._group = context, group
        self._turns: list[TurnRecord] = []
        self.sequences: list[Demonstration] = []

    def respond(self, ids: list[int], trained: bool) -> None:
        """Adds a turn of the policy, after its new prompt tokens; `trained`: ids are targets."""
        addition = self._context.before_turn(self._group, self._turns)
        if addition.fresh:
            self.sequences.append(Demonstration([], []))
        sequence = self.sequences[-1]
        sequence.tokens.extend([*addition.ids, *ids])
        sequence.trained.extend([False] * len(addition.ids) + [trained] * len(ids))

    def observe(self, observation: Observation) -> None:
        self._turns.append(TurnRecord((), (observation,)))


@dataclass(frozen=True, slots=True)
class DemonstratedCall:
    """A choice in the thought's words, and the call's JSON. `answers`: the reply is an answer."""

    choice: str
    call: str
    observation: Observation
    answers: bool


class Demonstrator:
    """Makes demonstration n from the training tasks, as a pure function of n."""

    def __init__(self, config: Config, catalogue: Catalogue, preferences: Sequence[Preference]):
        self._source = TaskSource.train(config.tasks)
        self._topics: Mapping[str, str] = {f.name: f.topic for f in config.tasks.families}
        self._config, self._catalogue, self._preferences = config, catalogue, preferences
        self._scripts = ToolScripts(catalogue)
        models = catalogue.offered_models
        generalists = [one.description.split()[0] for one in models if is_generalist(one)]
        self._known_topics = sorted({topic for topic in self._topics.values() if topic})
        # All in each thought, in this order: so the tiny model learns to look them up.
        self._words = [*filter(None, dict.fromkeys(self._topics.values())), *generalists]

    def group(self, n: int) -> GroupSpec:
        """Returns a task from the end of the training range, which training reaches last."""
        seed = derive_seed(self._config.model.tiny.seed if self._config.model.tiny else 0, n)
        rng = random.Random(seed)
        i = self._source.size - 1 - rng.randrange(self._source.size // 2)
        task = self._source.make(n % len(self._source.families), i)
        sampled = sample_toolset(self._catalogue, self._config.catalogue, seed)
        toolset = with_other_strengths(sampled, self._known_topics, rng)
        return GroupSpec(f"demo/{n}", 0, task, toolset, rng.choice(self._preferences), ())

    def make(self, chat: Chat, n: int) -> list[Demonstration]:
        """Returns the sequences of demonstration n that have targets."""
        group, rng = self.group(n), random.Random(derive_seed("demonstration", n))
        submit = self._config.catalogue.submit
        conversation = Conversation(context_of(chat, self._config.rollout, submit), group)
        thought, made = self._think(group), []
        if rng.random() < FAULTY_CALL:
            choice, call, error = self._faulty(group.toolset, rng)
            conversation.respond(
                write_hermes(chat, calls=[call], thought=f"{thought} {choice}"), False
            )
            conversation.observe(Observation(error, "", "fault"))
        while not any(one.answers for one in made) or rng.random() < ASK_AGAIN:
            one = self._choose(group.task, group.toolset, rng)
            made.append(one)
            conversation.respond(
                write_hermes(chat, calls=[one.call], thought=f"{thought} {one.choice}"), True
            )
            conversation.observe(one.observation)
        chosen = rng.choice([i for i, one in enumerate(made) if one.answers])
        text = "" if submit else made[chosen].observation.text
        calls = [call_json(SUBMIT, {"reply": chosen + 1})] if submit else []
        conversation.respond(write_hermes(chat, text, calls, thought=""), True)
        return [sequence for sequence in conversation.sequences if any(sequence.trained)]

    def _faulty(self, toolset: ToolsetSample, rng: random.Random) -> tuple[str, str, str]:
        """Returns (choice, call, observation) for an absent model or an empty expression."""
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
        """Returns the parts of demonstration n as plain text, to train the tokenizer."""
        group, rng = self.group(n), random.Random(derive_seed("demonstration", n))
        functions = [signature["function"] for signature in signatures(group.toolset, True)]
        described = [f"{f['name']}: {f['description']}" for f in functions]
        tables = [p.get("description", "") for f in functions for p in _properties(f)]
        one = self._choose(group.task, group.toolset, rng)
        thought = f"{self._think(group)} {one.choice}"
        request = f"{group.task.question}\n\n{group.preference.instruction}"
        written = (one.call, call_json(SUBMIT, {"reply": 1}))
        calls = [f"{CALL.text}\n{call}\n{END_OF_CALL.text}" for call in written]
        return [request, *described, *tables, thought, calls[0], one.observation.text, calls[1]]

    def _think(self, group: GroupSpec) -> str:
        return think(group, self._topics[group.task.family], self._words)

    def _choose(self, task: Task, toolset: ToolsetSample, rng: random.Random) -> DemonstratedCall:
        """Returns a call of an option of a random role, among the roles useful to the task."""
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
            observation = Observation(
                script.reply, option.alias, option.kind, script.arguments.get("code")
            )
            return DemonstratedCall(choice, call, observation, script.answers)
        wrong = rng.random() < WRONG_REPLY
        reply = plausible_wrong_answer(task, rng) if wrong else reference(task)
        observation = Observation(reply, option.alias, option.kind)
        return DemonstratedCall(choice, call_json(ASK, {"model": option.alias}), observation, True)


def _properties(function: Mapping[str, Any]) -> list[Mapping[str, str]]:
    return list(function["parameters"]["properties"].values())


def think(group: GroupSpec, topic: str, words: Sequence[str]) -> str:
    """Returns the thought: the models for each of `words`, those for the topic, the instruction.

    It ends with the instruction without its full stop, so that its last word precedes the choice.
    """
    models = [option for option in group.toolset.options if option.kind == "model"]

    def known(word: str) -> str:
        return f"{word}: {', '.join(o.alias for o in models if names(o, word)) or 'none'}"

    listed = "; ".join(map(known, words))
    return f"good at {listed}\nnamed {known(topic)}\n{group.preference.instruction.rstrip('.')}"


def with_other_strengths(
    toolset: ToolsetSample, topics: Sequence[str], rng: random.Random
) -> ToolsetSample:
    """Returns the toolset with random topics for its specialists, sometimes two for one."""
    topics_left = cycle(rng.sample(topics, len(topics)))

    def other(option: ToolOption) -> ToolOption:
        if not any(names(option, topic) for topic in topics):
            return option
        found = [next(topics_left), *(rng.choices(topics) if rng.random() < TWO_STRENGTHS else ())]
        return replace(option, description=", ".join(dict.fromkeys(found)))

    return replace(toolset, options=tuple(map(other, toolset.options)))


def names(option: ToolOption, topic: str) -> bool:
    """Returns whether the option's description names the topic; never for an empty topic."""
    return bool(topic and re.search(rf"\b{re.escape(topic)}\b", option.description))


def is_generalist(option: ToolOption | Entry) -> bool:
    return option.description.endswith(" at all")


def is_tool(option: ToolOption) -> bool:
    return option.kind == "tool"


def role(option: ToolOption, topic: str) -> str:
    """Returns the option's role for a task of this topic."""
    if is_tool(option):
        return "tool"
    if names(option, topic):
        return f"named {topic}"
    return option.description.split()[0] if is_generalist(option) else "other"
