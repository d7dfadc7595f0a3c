"""Samples the toolset of a task: models and tools with aliases, prices and latencies.

A toolset is a pure function of its seed, so it is the same in every process and for every policy
compared on the task (paper section 3.3: subset and prices vary by instance). Subsets and terms,
aliases, and the price sheet have separate random streams: with or without aliases, the same seed
gives the same models on the same terms. A model has one price in a toolset, in all its options.
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
UNNAMED = "another model"  # replaces names of models that the toolset does not offer


def sample_toolset(catalogue: Catalogue, config: CatalogueConfig, seed: int) -> ToolsetSample:
    """Returns a random subset of the models, followed by the tools present."""
    rng = random.Random(seed)
    models = _subset(catalogue.offered_models, config, rng)
    tools = [tool for tool in catalogue.offered_tools if rng.random() < tool.presence]
    terms = _Terms(catalogue, config, rng, _sheet(catalogue, seed))
    models_offered = [terms.model_option(model) for model in models]
    tools_offered = [terms.tool_option(tool) for tool in tools]
    if config.aliases:
        names = sorted(catalogue.models, key=len, reverse=True)
        models_offered = _aliased(models_offered, MODEL, names, seed)
        tools_offered = [_without_names(tool, names, seed) for tool in tools_offered]
    return ToolsetSample(seed, (*models_offered, *tools_offered))


def model_aliases(catalogue: Catalogue, config: CatalogueConfig) -> list[str]:
    """Returns all names that models can have in a toolset."""
    models = catalogue.offered_models
    if config.aliases:
        return [f"{MODEL}-{n}" for n in range(1, len(models) + 1)]
    return [model.name for model in models]


def with_model(toolset: ToolsetSample, catalogue: Catalogue, name: str) -> ToolsetSample:
    """Returns the toolset with this model, added under its own name and terms if absent."""
    if any(option.identity == name and option.kind == "model" for option in toolset.options):
        return toolset
    option = plain_option(catalogue.models[name], catalogue.price_sheet)
    return replace(toolset, options=(option, *toolset.options))


def without_models(toolset: ToolsetSample, catalogue: Catalogue) -> ToolsetSample:
    """Returns the toolset without models; recipes are replaced by the tool that they run.

    That tool has its catalogue terms. Recipes that run no tool are removed.
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
    """Returns an entry as an option outside any toolset, under its own name and terms."""
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
    """Samples the prices and latencies of one toolset."""

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
    """Returns `models_min` to `models_max` random items, in order."""
    size = len(whole)
    count = rng.randint(min(config.models_min, size), min(config.models_max, size))
    kept = set(rng.sample(range(size), count))
    return [item for i, item in enumerate(whole) if i in kept]


def _sheet(catalogue: Catalogue, seed: int) -> PriceSheet:
    if not catalogue.sheets:
        return PriceSheet(catalogue.price_sheet)
    return random.Random(derive_seed(seed, "price sheet")).choice(catalogue.sheets)


def _aliased(
    options: Sequence[ToolOption], stem: str, names: Sequence[str], seed: int
) -> list[ToolOption]:
    """Returns the options with numbered aliases in random order, without model names."""
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


def _without_names(tool: ToolOption, names: Sequence[str], seed: int) -> ToolOption:
    """Returns a tool without model names; a verbatim signature is left as it is."""
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
    """Returns `text` with names replaced by aliases.

    `names` are sorted longest first, because one can be a prefix of another.
    """
    known = {name.lower(): alias_of.get(name, UNNAMED) for name in names}
    pattern = "|".join(map(re.escape, names))
    return re.sub(
        rf"(?<!\w)(?:{pattern})(?!\w)",
        lambda m: known.get(m[0].lower(), UNNAMED),
        text,
        flags=re.IGNORECASE,
    )


def _parameters(choices: Iterable[str]) -> Mapping[str, object]:
    """Returns the JSON schema of a recipe's only argument."""
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
