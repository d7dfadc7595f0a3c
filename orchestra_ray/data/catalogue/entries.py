"""The catalogue: what can be called, by whom it is executed, what it costs and how far it may go.

An entry is a model, which is asked through `ask(model)`, or a tool, which is a function with
arguments of its own. A tool with `choices` is a recipe: the policy picks a model by its choice's
name, and the model does the rest. Prices are integer nano-dollars here; the file has dollars
(`load.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestra_ray.core.money import Prices
from orchestra_ray.data.catalogue.parsers import Parser

EVEN_CHANCE = 0.5  # of a model whose skill nobody has stated


class Kind(StrEnum):
    MODEL = "model"
    TOOL = "tool"


class Isolation(StrEnum):
    """Where what an entry runs is run on this machine."""

    NONE = "none"  # in the executor's own process
    PROCESS = "process"  # in a process of its own, which can be killed
    SANDBOX = "sandbox"  # in one that sees no network, no file of the host and no environment


# What the executors that come with the project give; one of a user's own gives what it states.
ISOLATION_OF_BACKEND: Mapping[str, Isolation] = {
    "calculator": Isolation.NONE,
    "endpoint": Isolation.NONE,
    "function": Isolation.PROCESS,
    "python": Isolation.SANDBOX,
    "recipe": Isolation.NONE,
    "search": Isolation.NONE,
    "simulated": Isolation.NONE,
    "web_search": Isolation.NONE,
}

# Executors of which a call changes nothing outside; the first of them are billed by nobody outside.
UNBILLED_BACKENDS = {"calculator", "python", "search", "simulated"}
READING_BACKENDS = UNBILLED_BACKENDS | {"endpoint", "recipe", "web_search"}
KEYED_BACKENDS = {"endpoint", "recipe"}  # which send a provider the key of their call


@dataclass(frozen=True, slots=True)
class Limits:
    """What the pool keeps to. `concurrency` and `calls_per_s` hold for the whole pool together.

    `deadline_s` holds for a call with all its attempts. A second attempt is made beside one that
    has run for `hedge_after_s`. A lost call is made again only where it is `idempotent`: being made
    twice, it acts once and is billed once. None: as its executor is known to be (`Entry`).
    """

    concurrency: int | None = None
    calls_per_s: float | None = None
    deadline_s: float = 120.0
    retries: int = 2
    hedge_after_s: float | None = None
    idempotent: bool | None = None
    context_tokens: int = 32_768
    max_output_tokens: int = 8_192
    max_service_s: float = 0.0  # what a call can be billed for, where seconds have a price
    max_searches: int = 1
    max_reply_characters: int | None = None  # a longer reply is cut with a mark


@dataclass(frozen=True, slots=True)
class Choice:
    """One model that a recipe can be done by. `prices` of None: the model's own."""

    name: str
    model: str
    description: str
    latency_s: float
    prices: Prices | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A model or a tool. `settings` are the executor's own.

    skill: the chance of a right answer by family of tasks, with a `default`; simulated experts act
    on it, the scripted baselines read it. output_tokens: the usual length of an answer.
    parameters: JSON schema of a tool's arguments. presence: a tool's chance to be in a draw.
    parser: what is read out of a model's answer; of a recipe: out of what its model writes, where
    `text` means by the model's own parser. choices: the models that a recipe can be done by.
    runs: the tool that a recipe gives what its model wrote, a query or a program. terminal: the
    reply ends the episode as its answer. offered: can be called by itself; else only as part of a
    recipe. signature: the function as the policy reads it, word for word, in place of one that is
    made from the rest; prices and latencies are then as it says, in every draw.
    """

    name: str
    kind: Kind
    description: str
    backend: str
    prices: Prices
    latency_s: float
    limits: Limits = Limits()
    version: str = "1"
    skill: Mapping[str, float] = field(default_factory=dict)
    output_tokens: int = 0
    parameters: Mapping[str, Any] = field(default_factory=dict)
    presence: float = 1.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    isolation: Isolation = Isolation.NONE
    parser: Parser = Parser.TEXT
    offered: bool = True
    choices: tuple[Choice, ...] = ()
    runs: str | None = None
    terminal: bool = False
    signature: Mapping[str, Any] | None = None

    @property
    def acts(self) -> bool:
        """Whether a call may change something outside."""
        if self.limits.idempotent is not None:
            return not self.limits.idempotent
        return self.backend not in READING_BACKENDS

    def is_idempotent(self, prices: Prices) -> bool:
        """Whether a call at these prices, made twice, acts once and is billed once."""
        if self.limits.idempotent is not None:
            return self.limits.idempotent
        return not self.acts and (self.backend in UNBILLED_BACKENDS or prices == Prices())

    def may_repeat(self, prices: Prices) -> bool:
        """Whether an attempt of which nobody knows what it did can be made again in its call."""
        return self.is_idempotent(prices) or (not self.acts and self.backend in KEYED_BACKENDS)

    def skill_at(self, family: str) -> float:
        return self.skill.get(family, self.skill.get("default", EVEN_CHANCE))


@dataclass(frozen=True, slots=True)
class PriceSheet:
    """Prices by entry; one that it does not name keeps its own. `version` is for the ledger."""

    version: str
    prices: Mapping[str, Prices] = field(default_factory=dict)

    def of(self, entry: Entry) -> Prices:
        return self.prices.get(entry.name, entry.prices)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Entries by name. `price_sheet` is the version of the prices that they carry themselves.

    `sheets` are others, of which a draw takes one; none: it takes the entries' own prices.
    """

    entries: Mapping[str, Entry]
    price_sheet: str
    sheets: tuple[PriceSheet, ...] = ()

    @property
    def models(self) -> Mapping[str, Entry]:
        return {n: entry for n, entry in self.entries.items() if entry.kind is Kind.MODEL}

    @property
    def tools(self) -> Mapping[str, Entry]:
        return {n: entry for n, entry in self.entries.items() if entry.kind is Kind.TOOL}

    @property
    def offered_models(self) -> list[Entry]:
        return [entry for entry in self.models.values() if entry.offered]

    @property
    def offered_tools(self) -> list[Entry]:
        """Without the recipes that lean on a tool, or only on models, that are absent."""
        return [tool for tool in self.tools.values() if tool.offered and self.can_run(tool)]

    def choices_of(self, tool: Entry) -> list[Choice]:
        return [choice for choice in tool.choices if choice.model in self.entries]

    def can_run(self, tool: Entry) -> bool:
        has_tool = tool.runs is None or tool.runs in self.entries
        return has_tool and (not tool.choices or bool(self.choices_of(tool)))
