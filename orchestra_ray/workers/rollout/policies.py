"""The policy interface and scripted routers.

A policy maps the ids so far to the ids of a response. The scripted routers are the baselines of an
evaluation: they see the sampled toolset, choose by rule and write the model's chat format.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from orchestra_ray.core.faults import Failure
from orchestra_ray.core.policy_names import EXPERT
from orchestra_ray.core.records import (
    Caller,
    GroupSpec,
    LedgerEntry,
    ToolOption,
    ToolRequest,
    ToolResult,
    ToolsetSample,
)
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind
from orchestra_ray.data.catalogue.choices import MODEL
from orchestra_ray.data.catalogue.keys import is_counted
from orchestra_ray.data.catalogue.signatures import ASK
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.context import TurnRecord
from orchestra_ray.workers.rollout.parsing import call_json, write_hermes


@dataclass(frozen=True, slots=True)
class Completion:
    """A response: ids with the behaviour policy's log-probability and weight version of each.

    `entry`: the ledger entry of a paid response, already recorded.
    """

    token_ids: Sequence[int]
    logprobs: Sequence[float]
    versions: Sequence[int]
    finish: str  # "stop" or "length"
    entry: LedgerEntry | None = None


@dataclass(frozen=True, slots=True)
class PolicyInput:
    """The input of a policy for one turn. `turns`: its earlier turns."""

    request_id: str
    caller: Caller
    prompt_ids: Sequence[int]
    group: GroupSpec
    seed: int
    turns: Sequence[TurnRecord]
    deadline_s: float


class Policy(Protocol):
    async def respond(self, policy_input: PolicyInput) -> Completion | Failure: ...


class ToolCaller(Protocol):
    async def call(self, request: ToolRequest) -> ToolResult | Failure: ...

    def enter(self, entry: LedgerEntry) -> None:
        """Records an entry that did not come from the pool."""
        ...

    async def drain(self) -> int:
        """Waits until all entries made here are recorded; returns the number of lost ones."""
        ...


NO_MODEL = "There is no model to ask."  # the answer of a router without options
Chooser = Callable[[GroupSpec, Sequence[ToolOption], int], ToolOption]


class Router:
    """Calls the one model chosen by its rule, then answers with that model's reply.

    If the toolset has no models of its own, it chooses among those of the terminal tool.
    """

    def __init__(self, chat: Chat, choose: Chooser):
        self._chat = chat
        self._choose = choose

    async def respond(self, policy_input: PolicyInput) -> Completion:
        if policy_input.turns:
            return self._completion(
                write_hermes(self._chat, policy_input.turns[-1].observations[-1].text)
            )
        function, models = _to_ask(policy_input.group.toolset)
        if not models:
            return self._completion(write_hermes(self._chat, NO_MODEL))
        chosen = self._choose(policy_input.group, models, policy_input.seed)
        call = call_json(function, {MODEL: chosen.alias})
        return self._completion(write_hermes(self._chat, calls=[call]))

    def _completion(self, ids: Sequence[int]) -> Completion:
        return Completion(ids, [0.0] * len(ids), [0] * len(ids), "stop")


def _to_ask(toolset: ToolsetSample) -> tuple[str, Sequence[ToolOption]]:
    """Returns the function that gives the task to a model, and its models."""
    models = [option for option in toolset.options if option.kind == "model"]
    answering = [option for option in toolset.options if option.terminal and option.choices]
    if models or not answering:
        return ASK, models
    return answering[0].alias, answering[0].choices


def expected_cost_nanousd(entry: Entry, option: ToolOption) -> float:
    """Returns the cost of one answer of usual length, at the price in this toolset."""
    return entry.output_tokens * option.prices.output_nanousd_per_mtok / 1e6


def routers(catalogue: Catalogue) -> Mapping[str, Chooser]:
    """Returns the scripted baselines by name."""
    models = {name: one for name, one in catalogue.entries.items() if one.kind is Kind.MODEL}

    def cost(option: ToolOption) -> float:
        return expected_cost_nanousd(models[option.identity], option)

    def mean_skill(option: ToolOption) -> float:
        entry = models[option.identity]
        return sum(entry.skill_at(family) for family in _families(catalogue))

    def choose_random(group: GroupSpec, options: Sequence[ToolOption], seed: int) -> ToolOption:
        return random.Random(derive_seed(seed, "random-router")).choice(options)

    def choose_oracle(group: GroupSpec, options: Sequence[ToolOption], seed: int) -> ToolOption:
        """Maximises the expected reward over one call to each model, with all skills known.

        The reward is Eq. 2 over a group in which every available model was called once.
        """
        costs, preference = [cost(option) for option in options], group.preference
        seconds = [option.latency_s for option in options]

        def value(option: ToolOption) -> float:
            thrift, speed = _saved(cost(option), costs), _saved(option.latency_s, seconds)
            name, skill = option.identity, models[option.identity].skill_at(group.task.family)
            liked = sum(
                weight for key, weight in preference.tools.items() if is_counted(key, name, name)
            )
            return skill * (
                preference.outcome + preference.cost * thrift + preference.latency * speed + liked
            )

        return max(options, key=value)

    def only(name: str) -> Chooser:
        return lambda group, options, seed: next(o for o in options if o.identity == name)

    return {
        **{EXPERT + name: only(name) for name in catalogue.models},
        "random": choose_random,
        "cheapest": lambda group, options, seed: min(options, key=cost),
        "strongest": lambda group, options, seed: max(options, key=mean_skill),
        "oracle": choose_oracle,
    }


def _saved(amount: float, amounts: Sequence[float]) -> float:
    """Returns Eq. 1 for an amount to minimise: 1 for the smallest amount, 0 for the largest."""
    span = max(amounts) - min(amounts)
    return (max(amounts) - amount) / span if span else 0.0


def _families(catalogue: Catalogue) -> set[str]:
    return {family for entry in catalogue.models.values() for family in entry.skill}
