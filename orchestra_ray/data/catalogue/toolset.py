"""The draw: which models and tools a task sees, under which names, at which prices and latencies.

A draw is a pure function of its seed, so that a task's draw is the same in every process and for
every policy that is compared on it (paper section 3.3: subset and prices vary by instance). Its
parts have random streams of their own: with aliases or without, the same seed offers the same
models on the same terms. A model has one price in a draw, wherever it is offered.
"""

import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from operator import add
from typing import TypeVar

from orchestra_ray.config.schema import CatalogueConfig
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import ToolOption, ToolsetSample
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.data.catalogue.choices import MODEL
from orchestra_ray.data.catalogue.entries import Catalogue, Choice, Entry, PriceSheet

T = TypeVar("T")
UNNAMED = "another model"  # for one that a description names and the draw does not offer


def sample_toolset(catalogue: Catalogue, config: CatalogueConfig, seed: int) -> ToolsetSample:
    """A random subset of the models, then the tools that happen to be present."""
    rng = random.Random(seed)
    models = _subset(catalogue.offered_models, config, rng)
    tools = [tool for tool in catalogue.offered_tools if rng.random() < tool.presence]
    terms = _Terms(catalogue, config, rng, _sheet(catalogue, seed))
    asked = [terms.model_option(model) for model in models]
    others = [terms.tool_option(tool) for tool in tools]
    if config.aliases:
        names = sorted(catalogue.models, key=len, reverse=True)
        asked = _aliased(asked, MODEL, names, seed)
        others = [_hidden(option, names, seed) for option in others]
    return ToolsetSample(seed, (*asked, *others))


def model_aliases(catalogue: Catalogue, config: CatalogueConfig) -> list[str]:
    """What the models can be called in a draw, whichever draw it is."""
    models = catalogue.offered_models
    if config.aliases:
        return [f"{MODEL}-{n}" for n in range(1, len(models) + 1)]
    return [model.name for model in models]


def with_model(toolset: ToolsetSample, catalogue: Catalogue, name: str) -> ToolsetSample:
    """The draw with this model on offer: as it is there, else by name, on the file's terms."""
    if any(option.identity == name and option.kind == "model" for option in toolset.options):
        return toolset
    option = plain_option(catalogue.models[name], catalogue.price_sheet)
    return replace(toolset, options=(option, *toolset.options))


def without_models(toolset: ToolsetSample, catalogue: Catalogue) -> ToolsetSample:
    """The draw's tools; for one that a model feeds, what it runs, on the file's terms.

    A tool whose models are all there is to it goes with them.
    """
    kept: dict[str, ToolOption] = {}
    for option in toolset.options:
        if option.kind != "tool":
            continue
        runs = catalogue.entries[option.identity].runs if option.choices else None
        if runs is not None:
            option = plain_option(catalogue.entries[runs], catalogue.price_sheet)
        if not option.choices:
            kept.setdefault(option.alias, option)
    return replace(toolset, options=tuple(kept.values()))


def plain_option(entry: Entry, price_sheet: str) -> ToolOption:
    """An entry outside any draw: its own name, and the terms of the file."""
    return ToolOption(
        alias=entry.name,
        identity=entry.name,
        kind=entry.kind.value,
        description=entry.description,
        prices=entry.prices,
        latency_s=entry.latency_s,
        parameters=entry.parameters,
        price_sheet=price_sheet,
    )


@dataclass(slots=True)
class _Terms:
    """The prices and latencies of one draw."""

    catalogue: Catalogue
    config: CatalogueConfig
    rng: random.Random
    sheet: PriceSheet
    sampled: dict[str, Prices] = field(default_factory=dict)

    def model_option(self, model: Entry) -> ToolOption:
        return ToolOption(
            alias=model.name,
            identity=model.name,
            kind="model",
            description=model.description,
            prices=self._prices(model),
            latency_s=self._latency_s(model.latency_s),
            price_sheet=self.sheet.version,
        )

    def tool_option(self, tool: Entry) -> ToolOption:
        own = self._prices(tool)
        if tool.runs is not None:
            own = _sum(own, self._prices(self.catalogue.entries[tool.runs]))
        choices = self._choices(tool, own)
        return ToolOption(
            alias=tool.name,
            identity=tool.name,
            kind="tool",
            description=tool.description,
            prices=own,
            latency_s=self._latency_s(tool.latency_s),
            parameters=_parameters([c.alias for c in choices]) if choices else tool.parameters,
            price_sheet=self.sheet.version,
            choices=choices,
            terminal=tool.terminal,
            signature=tool.signature,
        )

    def _choices(self, tool: Entry, own: Prices) -> tuple[ToolOption, ...]:
        choices = self.catalogue.choices_of(tool)
        if tool.signature is None:
            choices = _subset(choices, self.config, self.rng)
        return tuple(self._choice_option(choice, own, tool.signature is None) for choice in choices)

    def _choice_option(self, choice: Choice, own: Prices, varies: bool) -> ToolOption:
        model = self.catalogue.entries[choice.model]
        return ToolOption(
            alias=choice.name,
            identity=model.name,
            kind="model",
            description=choice.description,
            prices=_sum(own, choice.prices or self._prices(model)),
            latency_s=self._latency_s(choice.latency_s) if varies else choice.latency_s,
            price_sheet=self.sheet.version,
        )

    def _prices(self, entry: Entry) -> Prices:
        if entry.name not in self.sampled:
            factor = self.rng.choice(self.config.price_factors)
            self.sampled[entry.name] = _scaled(self.sheet.of(entry), factor)
        return self.sampled[entry.name]

    def _latency_s(self, latency_s: float) -> float:
        return latency_s * self.rng.choice(self.config.latency_factors)


def _subset(whole: Sequence[T], config: CatalogueConfig, rng: random.Random) -> list[T]:
    """From `models_min` to `models_max` of them, in their order."""
    size = len(whole)
    count = rng.randint(min(config.models_min, size), min(config.models_max, size))
    chosen = set(rng.sample(range(size), count))
    return [one for i, one in enumerate(whole) if i in chosen]


def _sheet(catalogue: Catalogue, seed: int) -> PriceSheet:
    if not catalogue.sheets:
        return PriceSheet(catalogue.price_sheet)
    return random.Random(derive_seed(seed, "price sheet")).choice(catalogue.sheets)


def _aliased(
    options: Sequence[ToolOption], stem: str, names: Sequence[str], seed: int
) -> list[ToolOption]:
    """Numbered in a random order, with no description that names a model."""
    order = random.Random(derive_seed(seed, "aliases", stem)).sample(
        range(len(options)), len(options)
    )
    alias_of = {options[place].identity: f"{stem}-{n}" for n, place in enumerate(order, 1)}
    return [
        replace(
            options[place],
            alias=f"{stem}-{n}",
            description=_masked(options[place].description, names, alias_of),
        )
        for n, place in enumerate(order, 1)
    ]


def _hidden(tool: ToolOption, names: Sequence[str], seed: int) -> ToolOption:
    """A tool whose description and choices name no model; word for word stays word for word."""
    if tool.signature is not None:
        return tool
    choices = tuple(_aliased(tool.choices, tool.alias, names, seed))
    return replace(
        tool,
        description=_masked(tool.description, names, {}),
        choices=choices,
        parameters=_parameters([c.alias for c in choices]) if choices else tool.parameters,
    )


def _masked(text: str, names: Sequence[str], alias_of: Mapping[str, str]) -> str:
    """`text` with aliases for names. `names` are the longest first: one can begin another."""
    known = {name.lower(): alias_of.get(name, UNNAMED) for name in names}
    pattern = "|".join(map(re.escape, names))
    return re.sub(
        rf"(?<!\w)(?:{pattern})(?!\w)",
        lambda m: known.get(m[0].lower(), UNNAMED),
        text,
        flags=re.IGNORECASE,
    )


def _parameters(choices: Iterable[str]) -> Mapping[str, object]:
    """The JSON schema of a recipe's one argument."""
    return {
        "type": "object",
        "properties": {MODEL: {"type": "string", "enum": list(choices)}},
        "required": [MODEL],
    }


def _scaled(prices: Prices, factor: float) -> Prices:
    return Prices(*(round(getattr(prices, price.name) * factor) for price in fields(Prices)))


def _sum(one: Prices, other: Prices) -> Prices:
    names = [price.name for price in fields(Prices)]
    return Prices(
        *map(add, *([getattr(prices, name) for name in names] for prices in (one, other)))
    )
