"""Demonstrations for the warm start: what the prompt says in the thought, then a random choice.

The thought lists the models on offer, the task's topic, and those of them whose description names
it. The call that follows is drawn uniformly from everything on offer, whatever the thought said.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestra_ray.catalogue import Catalogue, draw_offers
from orchestra_ray.catalogue.signatures import ASK, SUBMIT, signatures
from orchestra_ray.config.schema import Config
from orchestra_ray.core.records import Draw, GroupSpec, Preference, Task
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.rollout.chat import Chat
from orchestra_ray.rollout.episode import opening_ids
from orchestra_ray.rollout.policy import tool_call_text
from orchestra_ray.tasks.reasoning_gym import TaskSource, reference
from orchestra_ray.tools.calculator import calculate
from orchestra_ray.tools.models import plausible_wrong_answer

ASK_AGAIN = 0.15  # how often a demonstration asks once more
WRONG_REPLY = 0.3  # how often a reply is a wrong one
CALCULATOR = "calculator"


@dataclass(frozen=True, slots=True)
class Demonstration:
    """Ids of a whole conversation, and which of them the policy is to learn to say."""

    tokens: list[int]
    spoken: list[bool]

    def __len__(self) -> int:
        return len(self.tokens)


class Demonstrator:
    """Makes demonstration n from the training tasks; a pure function of n."""

    def __init__(self, config: Config, catalogue: Catalogue, preferences: Sequence[Preference]):
        self._source = TaskSource.train(config.tasks)
        self._topics: Mapping[str, str] = {f.name: f.topic for f in config.tasks.families}
        self._config, self._catalogue, self._preferences = config, catalogue, preferences

    def group(self, n: int) -> GroupSpec:
        """A task from the far end of the training range, where training itself comes last."""
        seed = derive_seed(self._config.model.tiny.seed if self._config.model.tiny else 0, n)
        rng = random.Random(seed)
        i = self._source.size - 1 - rng.randrange(self._source.size // 2)
        task = self._source.make(n % len(self._source.families), i)
        draw = draw_offers(self._catalogue, self._config.catalogue, seed)
        return GroupSpec(f"demo/{n}", task, draw, rng.choice(self._preferences), ())

    def make(self, chat: Chat, n: int) -> Demonstration:
        group, rng = self.group(n), random.Random(derive_seed("demonstration", n))
        tokens = opening_ids(chat, group, self._config.catalogue.submit)
        spoken = [False] * len(tokens)

        def say(ids: list[int], own: bool) -> None:
            tokens.extend(ids)
            spoken.extend([own] * len(ids))

        thought, replies = think(group.task, group.draw, self._topics), []
        while not replies or rng.random() < ASK_AGAIN:
            call, reply = _choose(group.task, group.draw, rng)
            replies.append(reply)
            say(_response(chat, thought, call), True)
            say(chat.observation(reply, self._config.rollout.max_observation_tokens), False)
        chosen = rng.randrange(len(replies))
        submission = tool_call_text(SUBMIT, {"reply": chosen + 1})
        last = submission if self._config.catalogue.submit else replies[chosen]
        say(_response(chat, "", last), True)
        return Demonstration(tokens, spoken)

    def texts(self, n: int) -> list[str]:
        """What demonstration n is made of, as plain text for the tokenizer to learn from."""
        group, rng = self.group(n), random.Random(derive_seed("demonstration", n))
        functions = [signature["function"] for signature in signatures(group.draw, True)]
        described = [f"{f['name']}: {f['description']}" for f in functions]
        tables = [p.get("description", "") for f in functions for p in _properties(f)]
        call, reply = _choose(group.task, group.draw, rng)
        thought = think(group.task, group.draw, self._topics)
        request = f"{group.task.question}\n\n{group.preference.instruction}"
        submission = tool_call_text(SUBMIT, {"reply": 1})
        return [request, *described, *tables, thought, call, reply, submission]


def _properties(function: Mapping[str, Any]) -> list[Mapping[str, str]]:
    return list(function["parameters"]["properties"].values())


def _response(chat: Chat, thought: str, text: str) -> list[int]:
    return [*chat.encode_response(f"<think>\n{thought}\n</think>\n\n{text}"), chat.end_id]


def think(task: Task, draw: Draw, topics: Mapping[str, str]) -> str:
    """What the prompt says: who is there, the task's topic, and who claims to be good at it."""
    models = [offer for offer in draw.offers if offer.kind == "model"]
    topic = topics[task.family]
    named = [o.alias for o in models if re.search(rf"\b{re.escape(topic)}\b", o.description)]
    listed = ", ".join(offer.alias for offer in models)
    return f"{listed}; {topic}: {', '.join(named) or 'none'}"


def _choose(task: Task, draw: Draw, rng: random.Random) -> tuple[str, str]:
    """(call, reply) of a random offer; the calculator only where the task has an expression."""
    expression = task.payload["metadata"].get("expression")
    offers = [o for o in draw.offers if o.kind == "model" or (o.alias == CALCULATOR and expression)]
    offer = rng.choice(offers)
    if offer.kind == "tool":
        return tool_call_text(offer.alias, {"expression": expression}), calculate(expression)
    wrong = rng.random() < WRONG_REPLY
    reply = plausible_wrong_answer(task, rng) if wrong else reference(task)
    return tool_call_text(ASK, {"model": offer.alias}), reply
