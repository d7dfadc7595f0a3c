"""What a user can wish for, and the weights that mean it.

A preference is made of one wish or two. `weights_of` is the only way from wishes to weights, and
`consistent` says independently of it what must hold between them: what is wished for has a weight
as strong as the wish, what is avoided and what nobody spoke of has none.
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

UNSAID_OUTCOME = 0.6  # everybody wants a right answer, said or not
LOOPBACK = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}


class Aspect(StrEnum):
    """What a wish is about, and the user who has it."""

    OUTCOME = "outcome"  # the exact one
    COST = "cost"  # the frugal one
    LATENCY = "latency"  # the hurried one
    LIKE = "like"  # one who wants some tool or models used
    AVOID = "avoid"  # one who wants them left alone
    LOCAL = "local"  # one whose data must not leave the place


MIXED = "mixed"  # the kind of a user with two wishes
AMOUNTS = (Aspect.OUTCOME, Aspect.COST, Aspect.LATENCY)


class Strength(Enum):
    """How much a wish matters: the weight that it has."""

    SLIGHT = 0.3
    CLEAR = 0.6
    STRONG = 1.0

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Target:
    """Offers as a user speaks of them, by the catalogue's names; `others` do in their place."""

    words: str
    names: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Intent:
    """`target` is what the wish is about, where that is some of the offers."""

    aspect: Aspect
    strength: Strength
    target: Target | None = None


Intents = tuple[Intent, ...]


@dataclass(frozen=True, slots=True)
class Weights:
    """The vector of a preference; hashable, so that two that mean the same are equal."""

    outcome: float
    cost: float
    latency: float
    tools: tuple[tuple[str, float], ...] = ()  # by name, in its order; none of weight 0

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
    """Like and avoid are of the offers' kinds alone: no wish for an amount touches a tool."""
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


def consistent(intents: Intents, weights: Weights) -> bool:
    """Whether the weights say what the wishes say, all of it and no more."""
    said = {intent.aspect: intent for intent in intents}
    if len(said) != len(intents):
        return False
    amounts = (weights.outcome, weights.cost, weights.latency)
    for aspect, weight, unsaid in zip(AMOUNTS, amounts, (UNSAID_OUTCOME, 0.0, 0.0), strict=True):
        intent = said.get(aspect)
        if weight != (unsaid if intent is None else intent.strength.value):
            return False
    aimed = [intent for intent in intents if intent.target is not None]
    given = dict(weights.tools)
    if not aimed:
        return not given
    return len(aimed) == 1 and _is_followed(aimed[0], given)


def _is_followed(intent: Intent, given: dict[str, float]) -> bool:
    assert intent.target is not None
    named = {name for name in intent.target.names if given.get(name, 0.0) > 0}
    if set(given.values()) != {intent.strength.value}:
        return False
    if intent.aspect is Aspect.AVOID:
        return not named and set(given) <= set(intent.target.others)
    return named == set(intent.target.names) == set(given)


def all_intents(catalogue: Catalogue, aliases: bool) -> list[Intents]:
    """Every preference that users of the catalogue can have: one wish, or two that go together.

    Of two, one at most is about offers, for a second one would have to overrule the first.
    """
    amounts = [Intent(aspect, strength) for aspect, strength in product(AMOUNTS, Strength)]
    targets = _targets(catalogue, aliases)
    aimed = [
        Intent(aspect, strength, target)
        for target in targets
        for aspect, strength in product((Aspect.LIKE, Aspect.AVOID), Strength)
    ]
    local = _local(catalogue)
    if local is not None:
        aimed += [Intent(Aspect.LOCAL, strength, local) for strength in Strength]
    singles: list[Intents] = [(intent,) for intent in (*amounts, *aimed)]
    of_amounts = [(a, b) for a, b in combinations(amounts, 2) if a.aspect is not b.aspect]
    return [*singles, *of_amounts, *product(amounts, aimed)]


def offered(catalogue: Catalogue) -> list[Entry]:
    """What a draw can hold, and so what a weight can be on."""
    return [*catalogue.offered_models, *catalogue.offered_tools]


def _targets(catalogue: Catalogue, aliases: bool) -> list[Target]:
    """Tools by name; all tools and all models; models and their families where names are shown."""
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
    """Models whose names begin with the same word, two or more of them by that word."""
    by_stem: dict[str, list[Entry]] = {}
    for model in models:
        stem = re.match(r"[a-z]+(?=[\d.-])", model.name.rpartition("/")[2].lower())
        if stem is not None:
            by_stem.setdefault(stem[0], []).append(model)
    return {stem: members for stem, members in by_stem.items() if len(members) > 1}


def _target(catalogue: Catalogue, words: str, entries: Sequence[Entry]) -> Target:
    """Its others are the rest of its own kind, or of the other one where it is all of its own."""
    names = {entry.name for entry in entries}
    rest = [entry for entry in offered(catalogue) if entry.name not in names]
    kinds = {entry.kind for entry in entries}
    alike = [entry for entry in rest if entry.kind in kinds]
    return Target(words, tuple(e.name for e in entries), tuple(e.name for e in alike or rest))


def _local(catalogue: Catalogue) -> Target | None:
    """What sends nothing away from here; None where that is all or nothing."""
    here = [entry for entry in offered(catalogue) if _stays(catalogue, entry)]
    rest = [entry.name for entry in offered(catalogue) if entry not in here]
    if not here or not rest:
        return None
    models = [entry.name for entry in here if entry.kind is Kind.MODEL]
    words = "what runs here" if len(models) < len(here) else "models that run here"
    return Target(words, tuple(entry.name for entry in here), tuple(rest))


def _stays(catalogue: Catalogue, entry: Entry) -> bool:
    """A recipe stays where all that it can lean on does: a chosen model reads the question."""
    if entry.choices:
        leaned = [choice.model for choice in catalogue.choices_of(entry)]
        leaned += [entry.runs] if entry.runs is not None else []
        return all(_stays(catalogue, catalogue.entries[name]) for name in leaned)
    if entry.backend in UNBILLED_BACKENDS:
        return True
    urls: Any = entry.settings.get("base_urls", ())
    return bool(urls) and all(urlsplit(str(url)).hostname in LOOPBACK for url in urls)
