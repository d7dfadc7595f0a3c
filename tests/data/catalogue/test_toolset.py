from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.records import ToolOption, ToolsetSample
from orchestra_ray.data.catalogue import (
    Catalogue,
    Entry,
    Kind,
    load_catalogue,
    model_aliases,
    resolve_choice,
    sample_toolset,
)
from orchestra_ray.data.catalogue.entries import Choice
from orchestra_ray.data.catalogue.signatures import signatures
from orchestra_ray.data.catalogue.toolset import without_models

SEEDS = st.integers(0, 2**62)
NAMES = st.sampled_from(["nova", "gpt-5", "gpt-5-mini", "a.b", "Qwen3", "x"])


def models(toolset: ToolsetSample) -> list[ToolOption]:
    return [option for option in toolset.options if option.kind == "model"]


def tool(toolset: ToolsetSample, name: str) -> ToolOption:
    option = toolset.option(name)
    assert option is not None
    return option


def menus(toolset: ToolsetSample) -> list[list[ToolOption]]:
    """All options served by a model, by function."""
    choices = [list(option.choices) for option in toolset.options if option.choices]
    return [models(toolset), *choices]


@settings(max_examples=200)
@given(SEEDS, st.booleans())
def test_a_toolset_is_a_function_of_its_seed_and_keeps_its_bounds(
    paper: Catalogue, catalogue_config, seed: int, aliases: bool
) -> None:
    config = catalogue_config(aliases=aliases, models_min=2, models_max=4)
    toolset = sample_toolset(paper, config, seed)
    assert toolset == sample_toolset(paper, config, seed)
    assert len({option.alias for option in toolset.options}) == len(toolset.options)
    for menu in menus(toolset):
        assert 2 <= len(menu) <= 4
        assert len({option.alias for option in menu}) == len(menu)
    assert {option.alias for option in models(toolset)} <= set(model_aliases(paper, config))
    sheet = next(s for s in paper.sheets if s.version == toolset.options[0].price_sheet)
    for option in models(toolset):
        listed = sheet.of(paper.models[option.identity]).output_nanousd_per_mtok
        sampled = {round(listed * factor) for factor in config.price_factors}
        assert option.prices.output_nanousd_per_mtok in sampled


@given(SEEDS)
def test_a_toolset_has_the_prices_of_one_sheet(
    paper: Catalogue, catalogue_config, seed: int
) -> None:
    toolset = sample_toolset(paper, catalogue_config(price_factors=[1.0]), seed)
    versions = {option.price_sheet for menu in menus(toolset) for option in menu}
    versions |= {option.price_sheet for option in toolset.options}
    (version,) = versions
    sheet = next(sheet for sheet in paper.sheets if sheet.version == version)
    for option in models(toolset):
        assert option.prices == sheet.of(paper.entries[option.identity])


def test_every_sheet_is_sampled_about_as_often(paper: Catalogue, catalogue_config) -> None:
    sampled = Counter(
        sample_toolset(paper, catalogue_config(), n).options[0].price_sheet for n in range(400)
    )
    assert sampled.keys() == {sheet.version for sheet in paper.sheets}
    assert min(sampled.values()) > 140


def test_without_sheets_the_catalogues_own_version_is_noted(
    catalogue: Catalogue, catalogue_config
) -> None:
    sheets = {
        option.price_sheet for option in sample_toolset(catalogue, catalogue_config(), 1).options
    }
    assert sheets == {catalogue.price_sheet}


@given(SEEDS)
def test_a_model_has_one_price_in_a_toolset(
    orchestrator8b: Catalogue, catalogue_config, seed: int
) -> None:
    toolset = sample_toolset(orchestrator8b, catalogue_config(), seed)
    own = [tool(toolset, "answer"), tool(toolset, "search")]  # what these run costs no tokens
    by_model: dict[str, set[Prices]] = {}
    for choice in [choice for option in own for choice in option.choices]:
        by_model.setdefault(choice.identity, set()).add(choice.prices)
    assert all(len(prices) == 1 for prices in by_model.values())


@given(SEEDS)
def test_aliases_change_names_and_nothing_else(
    paper: Catalogue, catalogue_config, seed: int
) -> None:
    open_toolset = sample_toolset(paper, catalogue_config(aliases=False), seed)
    hidden = sample_toolset(paper, catalogue_config(aliases=True), seed)

    def terms(menu: list[ToolOption]) -> set[tuple]:
        return {(o.identity, o.prices, o.latency_s, o.description) for o in menu}

    assert [terms(menu) for menu in menus(open_toolset)] == [terms(menu) for menu in menus(hidden)]
    assert [o.alias for o in models(hidden)] == [
        f"model-{n}" for n in range(1, len(models(hidden)) + 1)
    ]
    for option in models(open_toolset):
        assert option.alias == option.identity


def test_an_alias_is_independent_of_its_model(paper: Catalogue, catalogue_config) -> None:
    config = catalogue_config(models_min=10, models_max=10)
    behind = Counter()
    for seed in range(2_000):
        toolset = sample_toolset(paper, config, seed)
        behind[tool(toolset, "model-1").identity] += 1
        assert tool(toolset, "web_search").choices[0].alias == "web_search-1"
        behind["web", tool(toolset, "web_search").choices[0].identity] += 1
    assert len(behind) == 10 + 9
    assert max(behind.values()) < 2_000 / 9 + 100


@given(
    names=st.lists(NAMES, min_size=1, unique=True),
    parts=st.lists(NAMES | st.sampled_from(["beats", "NOVA", "GPT-5", ",", "and"]), max_size=8),
    seed=SEEDS,
)
def test_no_description_names_a_model(
    catalogue_config, names: list[str], parts: list[str], seed: int
) -> None:
    text = " ".join(parts)
    entries = {n: Entry(n, Kind.MODEL, text, "simulated", Prices(), 1.0) for n in names}
    choices = tuple(Choice(f"c{i}", name, text, 1.0) for i, name in enumerate(names))
    recipe = Entry("do", Kind.TOOL, text, "recipe", Prices(), 1.0, choices=choices)
    catalogue = Catalogue({**entries, "do": recipe}, "p")
    toolset = sample_toolset(catalogue, catalogue_config(models_min=9, models_max=9), seed)
    shown = [option for menu in menus(toolset) for option in menu] + [tool(toolset, "do")]
    for option in shown:
        words = [word.lower() for word in option.description.split()]
        assert not {name.lower() for name in names} & set(words)
        assert len(words) >= len(text.split())  # what was not a name is still there
    open_toolset = sample_toolset(catalogue, catalogue_config(aliases=False), seed)
    assert {option.description for option in open_toolset.options} == {text}


def test_a_description_that_names_another_option_has_its_alias(catalogue_config) -> None:
    texts = {"nova": "better than orbit", "orbit": "worse than Nova", "dim": "dim"}
    entries = {n: Entry(n, Kind.MODEL, t, "simulated", Prices(), 1.0) for n, t in texts.items()}
    toolset = sample_toolset(
        Catalogue(entries, "p"), catalogue_config(models_min=3, models_max=3), 7
    )
    said = {option.identity: option for option in toolset.options}
    assert said["nova"].description == f"better than {said['orbit'].alias}"
    assert said["orbit"].description == f"worse than {said['nova'].alias}"
    assert said["dim"].description == said["dim"].alias


def test_tools_vary_in_price_and_latency(paper: Catalogue, catalogue_config) -> None:
    config = catalogue_config(price_factors=[1.0, 3.0], latency_factors=[1.0, 5.0])
    options = [
        option
        for seed in range(50)
        for option in sample_toolset(_with_plain_tools(paper), config, seed).options
        if option.alias == "tavily"
    ]
    assert {option.prices.search_nanousd for option in options} == {10_000_000, 30_000_000}
    assert {option.latency_s for option in options} == {3.0, 15.0}


def test_without_models_a_recipe_is_the_tool_that_it_runs(
    paper: Catalogue, catalogue_config
) -> None:
    toolset = sample_toolset(paper, catalogue_config(price_factors=[3.0]), 0)
    by_recipe = {"web_search": "tavily", "local_search": "passages", "code": "sandbox"}
    there = {by_recipe[o.identity] for o in toolset.options if o.identity in by_recipe}
    alone = without_models(toolset, paper)
    assert {option.alias for option in alone.options} == there != set()
    for option in alone.options:
        entry = paper.entries[option.identity]
        assert (option.kind, option.choices) == ("tool", ())
        assert (option.parameters, option.prices) == (entry.parameters, entry.prices)
    assert signatures(alone, False)


def test_a_recipe_costs_its_models_tokens_and_what_it_runs(
    paper: Catalogue, catalogue_config
) -> None:
    toolset = sample_toolset(
        paper, catalogue_config(aliases=False, price_factors=[1.0], models_min=9, models_max=9), 0
    )
    search = tool(toolset, "web_search")
    assert search.parameters["properties"]["model"]["enum"] == [c.alias for c in search.choices]
    for choice in search.choices:
        option = resolve_choice(search, choice.alias)
        assert option is not None and option.choices == (choice,)
        assert (option.identity, option.alias) == ("web_search", choice.alias)
        assert (option.prices, option.latency_s) == (choice.prices, choice.latency_s)
        model = paper.entries[choice.identity]
        sheet = next(s for s in paper.sheets if s.version == search.price_sheet)
        usage = Usage(input_tokens=1_000, output_tokens=100)
        tokens = sheet.of(model).cost_nanousd(usage)
        found = replace(usage, searches=1)
        assert option.prices.cost_nanousd(found) == tokens + 10_000_000
    assert resolve_choice(search, "query-99") is None


def test_what_needs_an_absent_tool_or_model_is_absent(paper: Catalogue, catalogue_config) -> None:
    without = {n: e for n, e in paper.entries.items() if n not in ("tavily", "gpt-5")}
    for seed in range(20):
        toolset = sample_toolset(
            replace(paper, entries=without), catalogue_config(models_min=9, models_max=9), seed
        )
        names = {option.alias for option in toolset.options}
        assert "web_search" not in names and {"local_search", "code"} <= names
        assert "gpt-5" not in {option.identity for menu in menus(toolset) for option in menu}


def test_only_offered_entries_can_be_called_directly(
    orchestrator8b: Catalogue, catalogue_config
) -> None:
    toolset = sample_toolset(orchestrator8b, catalogue_config(), 1)
    assert {option.alias for option in toolset.options} == {"enhance_reasoning", "answer", "search"}
    assert [option.alias for option in toolset.options if option.terminal] == ["answer"]


def test_the_models_of_the_quick_start_are_offered_by_their_names(
    catalogue: Catalogue, catalogue_config
) -> None:
    config = catalogue_config(aliases=False)
    assert model_aliases(catalogue, config) == list(catalogue.models)
    assert model_aliases(catalogue, catalogue_config())[-1] == f"model-{len(catalogue.models)}"


def _with_plain_tools(catalogue: Catalogue) -> Catalogue:
    offered = {n: replace(entry, offered=True) for n, entry in catalogue.entries.items()}
    return replace(catalogue, entries=offered)


@pytest.mark.parametrize("name", ["paper", "paper_unseen", "orchestrator8b", "simulated"])
def test_descriptions_of_shipped_files_name_no_maker(name: str, catalogue_config) -> None:
    makers = "gpt claude qwen llama gemma phi deepseek nemotron starcoder codestral openai o3 math-"
    catalogue = load_catalogue(f"configs/catalogues/{name}.yaml")
    for seed in range(20):
        for menu in menus(sample_toolset(catalogue, catalogue_config(), seed)):
            for option in menu:
                said = f"{option.alias} {option.description}".lower()
                assert not [maker for maker in makers.split() if maker in said], said
