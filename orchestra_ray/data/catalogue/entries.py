"""The catalogue's records: models and tools with their backends, prices and limits.

An entry is a model, called through `ask(model)`, or a tool, which is a function with its own
arguments. A tool with `choices` is a recipe: the policy picks a model by the choice's name, and
the model supplies the rest. Prices are integer nano-dollars here; files state dollars (`load.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from orchestra_ray.core.money import Prices
from orchestra_ray.data.catalogue.parsers import Parser

DEFAULT_SKILL = 0.5  # of a model without a stated skill


class Kind(StrEnum):
    MODEL = "model"
    TOOL = "tool"


class Isolation(StrEnum):
    """Isolation of the code that an entry runs on this machine."""

    NONE = "none"  # in the executor's own process
    PROCESS = "process"  # in a separate process, which can be killed
    SANDBOX = "sandbox"  # a process without network, host files and environment


# Isolation of the built-in backends; a user's own backend has the isolation that its entry states.
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

# Backends whose calls have no side effects; the first set is also free of outside charges.
UNBILLED_BACKENDS = {"calculator", "python", "search", "simulated"}
READING_BACKENDS = UNBILLED_BACKENDS | {"endpoint", "recipe", "web_search"}
KEYED_BACKENDS = {
    "endpoint",
    "recipe",
}  # backends that send the call's idempotency key to the provider


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an entry. `concurrency` and `calls_per_s` are shared by the whole executor pool.

    `deadline_s` covers a call with all its attempts. A second, concurrent attempt is started after
    `hedge_after_s`. A lost call is repeated only if it is `idempotent`: made twice, it acts once
    and is billed once. None: derived from the backend (`Entry.is_idempotent`).
    """

    concurrency: int | None = None
    calls_per_s: float | None = None
    deadline_s: float = 120.0
    retries: int = 2
    hedge_after_s: float | None = None
    idempotent: bool | None = None
    context_tokens: int = 32_768
    max_output_tokens: int = 8_192
    max_service_s: float = 0.0  # billed at most, if seconds have a price
    max_searches: int = 1
    max_reply_characters: int | None = None  # longer replies are cut, with a mark


@dataclass(frozen=True, slots=True)
class Choice:
    """A model that a recipe offers to the policy. `prices` of None: the model's own."""

    name: str
    model: str
    description: str
    latency_s: float
    prices: Prices | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A model or a tool. `settings` belong to the backend.

    skill: probability of a correct answer by task family, with a `default`; simulated experts
    sample from it, scripted baselines read it. output_tokens: typical length of an answer.
    parameters: JSON schema of a tool's arguments. presence: probability that a toolset holds the
    tool. parser: extracts the reply from a model's answer; for a recipe, from its model's output,
    where `text` stands for the model's own parser. choices: the models that a recipe offers.
    runs: the tool that executes the output (a query or a program) of a recipe's model. terminal:
    the reply ends the episode as its answer. offered: callable directly; otherwise only as part
    of a recipe. signature: the function as the policy reads it, verbatim, in place of a generated
    one; prices and latencies are then those of the signature in every toolset.
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
    def has_side_effects(self) -> bool:
        """Returns whether a call may change outside state."""
        if self.limits.idempotent is not None:
            return not self.limits.idempotent
        return self.backend not in READING_BACKENDS

    def is_idempotent(self, prices: Prices) -> bool:
        """Returns whether a call at these prices, made twice, acts once and is billed once."""
        if self.limits.idempotent is not None:
            return self.limits.idempotent
        return not self.has_side_effects and (
            self.backend in UNBILLED_BACKENDS or prices == Prices()
        )

    def may_repeat(self, prices: Prices) -> bool:
        """Returns whether a call can be retried after an attempt with unknown outcome."""
        return self.is_idempotent(prices) or (
            not self.has_side_effects and self.backend in KEYED_BACKENDS
        )

    def skill_at(self, family: str) -> float:
        return self.skill.get(family, self.skill.get("default", DEFAULT_SKILL))


@dataclass(frozen=True, slots=True)
class PriceSheet:
    """Prices by entry; unnamed entries keep their own. `version` goes into the ledger."""

    version: str
    prices: Mapping[str, Prices] = field(default_factory=dict)

    def of(self, entry: Entry) -> Prices:
        return self.prices.get(entry.name, entry.prices)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Entries by name. `price_sheet` is the version of the entries' own prices.

    `sheets` are alternatives, one of which is sampled per toolset; empty: the entries' own prices.
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
        """Offered tools, without recipes whose tool or all of whose models are absent."""
        return [tool for tool in self.tools.values() if tool.offered and self.can_run(tool)]

    def choices_of(self, tool: Entry) -> list[Choice]:
        return [choice for choice in tool.choices if choice.model in self.entries]

    def can_run(self, tool: Entry) -> bool:
        has_tool = tool.runs is None or tool.runs in self.entries
        return has_tool and (not tool.choices or bool(self.choices_of(tool)))
