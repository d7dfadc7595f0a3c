"""Intents of users, and the matching weights.

A preference is made of one or two intents. `weights_of` maps intents to weights, and
`is_consistent` checks the result independently: a wanted aspect or option has the weight of the
intent's strength; avoided and unmentioned ones have none.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import combinations, product
from typing import Any
from urllib.parse import urlsplit

from orchestra_ray.core.records import Preference
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind
from orchestra_ray.data.catalogue.entries import UNBILLED_BACKENDS

UNSAID_OUTCOME = 0.6  # a right answer matters even if it is not mentioned
LOOPBACK = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}


class Aspect(StrEnum):
    """The subject of an intent, which is also the kind of user who has it."""

    OUTCOME = "outcome"  # correctness
    COST = "cost"  # low cost
    LATENCY = "latency"  # low latency
    LIKE = "like"  # use of certain tools or models
    AVOID = "avoid"  # no use of certain tools or models
    LOCAL = "local"  # no use of outside services


MIXED = "mixed"  # the kind of a user with two intents
AMOUNTS = (Aspect.OUTCOME, Aspect.COST, Aspect.LATENCY)


class Strength(Enum):
    """The strength of an intent; the value is its weight."""

    SLIGHT = 0.3
    CLEAR = 0.6
    STRONG = 1.0

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Target:
    """Options as a user names them (`words`), by catalogue name; `others` are the alternatives."""

    words: str
    names: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Intent:
    """`target`: the options concerned, for intents about options."""

    aspect: Aspect
    strength: Strength
    target: Target | None = None


Intents = tuple[Intent, ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """The weight vector of a preference, hashable and in canonical form."""

    outcome: float
    cost: float
    latency: float
    tools: tuple[tuple[str, float], ...] = ()  # sorted by name; no zero weights

    @staticmethod
    def made(outcome: float, cost: float, latency: float, tools: dict[str, float]) -> "Weights":
        positive = sorted((name, weight) for name, weight in tools.items() if weight > 0)
        return Weights(outcome, cost, latency, tuple(positive))

    def preference(self, name: str, instruction: str) -> Preference:
        tools = dict(self.tools)
        return Preference(name, instruction, self.outcome, self.cost, self.latency, tools)


def kind_of(intents: Intents) -> str:
    return intents[0].aspect.value if len(intents) == 1 else MIXED


def weights_of(intents: Intents) -> Weights:
    """Returns the weights of intents; those without a target leave the tools' weights alone."""
    amounts = {intent.aspect: intent.strength.value for intent in intents if intent.target is None}
    tools: dict[str, float] = {}
    for intent in intents:
        if intent.target is not None:
            avoids = intent.aspect is Aspect.AVOID
            wanted = intent.target.others if avoids else intent.target.names
            tools |= dict.fromkeys(wanted, intent.strength.value)
    return Weights.made(
        amounts.get(Aspect.OUTCOME, UNSAID_OUTCOME),
        amounts.get(Aspect.COST, 0.0),
        amounts.get(Aspect.LATENCY, 0.0),
        tools,
    )


def is_consistent(intents: Intents, weights: Weights) -> bool:
    """Returns whether the weights express all the intents and nothing else."""
    said = {intent.aspect: intent for intent in intents}
    if len(said) != len(intents):
        return False
    amounts = (weights.outcome, weights.cost, weights.latency)
    for aspect, weight, unsaid in zip(AMOUNTS, amounts, (UNSAID_OUTCOME, 0.0, 0.0), strict=True):
        intent = said.get(aspect)
        if weight != (unsaid if intent is None else intent.strength.value):
            return False
    targeted = [intent for intent in intents if intent.target is not None]
    given = dict(weights.tools)
    if not targeted:
        return not given
    return len(targeted) == 1 and _is_followed(targeted[0], given)


def _is_followed(intent: Intent, given: dict[str, float]) -> bool:
    assert intent.target is not None
    named = {name for name in intent.target.names if given.get(name, 0.0) > 0}
    if set(given.values()) != {intent.strength.value}:
        return False
    if intent.aspect is Aspect.AVOID:
        return not named and set(given) <= set(intent.target.others)
    return named == set(intent.target.names) == set(given)


def all_intents(catalogue: Catalogue, aliases: bool) -> list[Intents]:
    """Returns all combinations of one or two compatible intents of the catalogue's users.

    At most one of two intents has a target, because a second one would conflict with it.
    """
    amounts = [Intent(aspect, strength) for aspect, strength in product(AMOUNTS, Strength)]
    targets = _targets(catalogue, aliases)
    targeted = [
        Intent(aspect, strength, target)
        for target in targets
        for aspect, strength in product((Aspect.LIKE, Aspect.AVOID), Strength)
    ]
    local = _local(catalogue)
    if local is not None:
        targeted += [Intent(Aspect.LOCAL, strength, local) for strength in Strength]
    singles: list[Intents] = [(intent,) for intent in (*amounts, *targeted)]
    of_amounts = [(a, b) for a, b in combinations(amounts, 2) if a.aspect is not b.aspect]
    return [*singles, *of_amounts, *product(amounts, targeted)]


def offered_entries(catalogue: Catalogue) -> list[Entry]:
    """Returns the entries that a toolset can hold, and so those that can have a weight."""
    return [*catalogue.offered_models, *catalogue.offered_tools]


def _targets(catalogue: Catalogue, aliases: bool) -> list[Target]:
    """Returns the targets: each tool, all tools, all models; without aliases, also each model and
    family.
    """
    models, tools = catalogue.offered_models, catalogue.offered_tools
    found = [_target(catalogue, f"the {tool.name} tool", [tool]) for tool in tools]
    found += [_target(catalogue, "the tools", tools), _target(catalogue, "the models", models)]
    if not aliases:
        found += [_target(catalogue, model.name, [model]) for model in models]
        found += [
            _target(catalogue, f"the {family} models", members)
            for family, members in families(models).items()
        ]
    return [target for target in found if target.names and target.others]


def families(models: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Returns families of at least two models, by the word that their names begin with."""
    by_stem: dict[str, list[Entry]] = {}
    for model in models:
        stem = re.match(r"[a-z]+(?=[\d.-])", model.name.rpartition("/")[2].lower())
        if stem is not None:
            by_stem.setdefault(stem[0], []).append(model)
    return {stem: members for stem, members in by_stem.items() if len(members) > 1}


def _target(catalogue: Catalogue, words: str, entries: Sequence[Entry]) -> Target:
    """Returns a target; its others are the rest of its kind, or the other kind if there is none."""
    names = {entry.name for entry in entries}
    rest = [entry for entry in offered_entries(catalogue) if entry.name not in names]
    kinds = {entry.kind for entry in entries}
    alike = [entry for entry in rest if entry.kind in kinds]
    return Target(words, tuple(e.name for e in entries), tuple(e.name for e in alike or rest))


def _local(catalogue: Catalogue) -> Target | None:
    """Returns the target of entries without outside services; None if they are all or none."""
    local_entries = [entry for entry in offered_entries(catalogue) if _is_local(catalogue, entry)]
    rest = [entry.name for entry in offered_entries(catalogue) if entry not in local_entries]
    if not local_entries or not rest:
        return None
    models = [entry.name for entry in local_entries if entry.kind is Kind.MODEL]
    words = "what runs here" if len(models) < len(local_entries) else "models that run here"
    return Target(words, tuple(entry.name for entry in local_entries), tuple(rest))


def _is_local(catalogue: Catalogue, entry: Entry) -> bool:
    """Returns whether an entry is local; a recipe is if its tool and all its models are."""
    if entry.choices:
        parts = [choice.model for choice in catalogue.choices_of(entry)]
        parts += [entry.runs] if entry.runs is not None else []
        return all(_is_local(catalogue, catalogue.entries[name]) for name in parts)
    if entry.backend in UNBILLED_BACKENDS:
        return True
    urls: Any = entry.settings.get("base_urls", ())
    return bool(urls) and all(urlsplit(str(url)).hostname in LOOPBACK for url in urls)
