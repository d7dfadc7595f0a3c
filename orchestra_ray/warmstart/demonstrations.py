"""Demonstrations for the warm start: what the prompt says in the thought, then a random choice.

The thought lists the models on offer, the task's topic, and those of them whose description names
it. The call is drawn uniformly from everything on offer; before it is made, the thought says what
it is to this task: named, a generalist by its own word, or another. So a demonstration never tells
what to choose, and the policy can choose by role, which holds for every draw, as well as by name.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestra_ray.catalogue import Catalogue, draw_offers, model_aliases
from orchestra_ray.catalogue.signatures import ASK, SUBMIT, signatures
from orchestra_ray.config.schema import Config
from orchestra_ray.core.records import Draw, GroupSpec, Offer, Preference, Task
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.rollout.chat import Chat
from orchestra_ray.rollout.contexts import Context, Exchange, Heard, context_of
from orchestra_ray.rollout.policy import tool_call_text
from orchestra_ray.tasks.reasoning_gym import TaskSource, reference
from orchestra_ray.tools.models import plausible_wrong_answer
from orchestra_ray.warmstart.tool_scripts import ToolScripts

ASK_AGAIN = 0.15  # how often a demonstration asks once more
FAULTY_CALL = 0.15  # how often it starts with a call that fails, which is not learned
WRONG_REPLY = 0.3  # how often a reply is a wrong one
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
        self._turns: list[Exchange] = []
        self.sequences: list[Demonstration] = []

    def say(self, ids: list[int], own: bool) -> None:
        """A turn of the policy, after what it reads before; `own` is what it is to learn."""
        addition = self._context.before_turn(self._group, self._turns)
        if addition.fresh:
            self.sequences.append(Demonstration([], []))
        sequence = self.sequences[-1]
        sequence.tokens.extend([*addition.ids, *ids])
        sequence.spoken.extend([False] * len(addition.ids) + [own] * len(ids))

    def hear(self, heard: Heard) -> None:
        self._turns.append(Exchange((), (heard,)))


@dataclass(frozen=True, slots=True)
class Asked:
    """A choice in the thought's words, the call, and what came back; whether that is an answer."""

    choice: str
    call: str
    heard: Heard
    answers: bool


class Demonstrator:
    """Makes demonstration n from the training tasks; a pure function of n."""

    def __init__(self, config: Config, catalogue: Catalogue, preferences: Sequence[Preference]):
        self._source = TaskSource.train(config.tasks)
        self._topics: Mapping[str, str] = {f.name: f.topic for f in config.tasks.families}
        self._config, self._catalogue, self._preferences = config, catalogue, preferences
        self._scripts = ToolScripts(catalogue)

    def group(self, n: int) -> GroupSpec:
        """A task from the far end of the training range, where training itself comes last."""
        seed = derive_seed(self._config.model.tiny.seed if self._config.model.tiny else 0, n)
        rng = random.Random(seed)
        i = self._source.size - 1 - rng.randrange(self._source.size // 2)
        task = self._source.make(n % len(self._source.families), i)
        draw = draw_offers(self._catalogue, self._config.catalogue, seed)
        return GroupSpec(f"demo/{n}", 0, task, draw, rng.choice(self._preferences), ())

    def make(self, chat: Chat, n: int) -> list[Demonstration]:
        """The sequences of demonstration n in which there is something to learn."""
        group, rng = self.group(n), random.Random(derive_seed("demonstration", n))
        submit = self._config.catalogue.submit
        talk = Conversation(context_of(chat, self._config.rollout, submit), group)
        thought, asked = think(group.task, group.draw, self._topics), []
        if rng.random() < FAULTY_CALL:
            choice, call, error = self._faulty(group.draw, rng)
            talk.say(_response(chat, f"{thought}; {choice}", call), False)
            talk.hear(Heard(error, "", "fault"))
        while not any(one.answers for one in asked) or rng.random() < ASK_AGAIN:
            one = self._choose(group.task, group.draw, rng)
            asked.append(one)
            talk.say(_response(chat, f"{thought}; {one.choice}", one.call), True)
            talk.hear(one.heard)
        chosen = rng.choice([i for i, one in enumerate(asked) if one.answers])
        last = tool_call_text(SUBMIT, {"reply": chosen + 1}) if submit else asked[chosen].heard.text
        talk.say(_response(chat, "", last), True)
        return [sequence for sequence in talk.sequences if any(sequence.spoken)]

    def _faulty(self, draw: Draw, rng: random.Random) -> tuple[str, str, str]:
        """(choice, call, observation) for a model that is not on offer, or no expression."""
        known = model_aliases(self._catalogue, self._config.catalogue)
        absent = [name for name in known if draw.offer(name) is None]
        if absent and rng.random() < 0.5:
            name = rng.choice(absent)
            there = ", ".join(o.alias for o in draw.offers if o.kind == "model")
            error = f"error: there is no model {name}; choose from: {there}"
            return f"named: {name}", tool_call_text(ASK, {"model": name}), error
        call = tool_call_text(CALCULATOR, {"expression": ""})
        return f"tool: {CALCULATOR}", call, "error: not an arithmetic expression"

    def texts(self, n: int) -> list[str]:
        """What demonstration n is made of, as plain text for the tokenizer to learn from."""
        group, rng = self.group(n), random.Random(derive_seed("demonstration", n))
        functions = [signature["function"] for signature in signatures(group.draw, True)]
        described = [f"{f['name']}: {f['description']}" for f in functions]
        tables = [p.get("description", "") for f in functions for p in _properties(f)]
        one = self._choose(group.task, group.draw, rng)
        thought = f"{think(group.task, group.draw, self._topics)}; {one.choice}"
        request = f"{group.task.question}\n\n{group.preference.instruction}"
        submission = tool_call_text(SUBMIT, {"reply": 1})
        return [request, *described, *tables, thought, one.call, one.heard.text, submission]

    def _choose(self, task: Task, draw: Draw, rng: random.Random) -> Asked:
        """A random offer, of those that are of any use to the task."""
        topic = self._topics[task.family]
        scripts = {o.alias: self._scripts.script(o, task, topic) for o in draw.offers if is_tool(o)}
        offer = rng.choice([o for o in draw.offers if not is_tool(o) or scripts[o.alias]])
        choice = f"{role(offer, topic)}: {offer.alias}"
        script = scripts.get(offer.alias)
        if script is not None:
            call = tool_call_text(offer.alias, script.arguments)
            heard = Heard(script.reply, offer.alias, offer.kind, script.arguments.get("code"))
            return Asked(choice, call, heard, script.answers)
        wrong = rng.random() < WRONG_REPLY
        reply = plausible_wrong_answer(task, rng) if wrong else reference(task)
        heard = Heard(reply, offer.alias, offer.kind)
        return Asked(choice, tool_call_text(ASK, {"model": offer.alias}), heard, True)


def _properties(function: Mapping[str, Any]) -> list[Mapping[str, str]]:
    return list(function["parameters"]["properties"].values())


def _response(chat: Chat, thought: str, text: str) -> list[int]:
    return [*chat.encode_response(f"<think>\n{thought}\n</think>\n\n{text}"), chat.end_id]


def think(task: Task, draw: Draw, topics: Mapping[str, str]) -> str:
    """What the prompt says: who is there, the task's topic, and who claims to be good at it."""
    models = [offer for offer in draw.offers if offer.kind == "model"]
    topic = topics[task.family]
    named = [offer.alias for offer in models if names(offer, topic)]
    listed = ", ".join(offer.alias for offer in models)
    return f"{listed}; {topic}: {', '.join(named) or 'none'}"


def names(offer: Offer, topic: str) -> bool:
    return re.search(rf"\b{re.escape(topic)}\b", offer.description) is not None


def is_tool(offer: Offer) -> bool:
    return offer.kind == "tool"


def role(offer: Offer, topic: str) -> str:
    """What an offer is to a task of this topic."""
    if is_tool(offer):
        return "tool"
    if names(offer, topic):
        return "named"
    return offer.description.split()[0] if offer.description.endswith(" at all") else "other"
