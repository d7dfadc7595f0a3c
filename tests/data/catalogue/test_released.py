import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.config.schema import CatalogueConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.data.catalogue import Catalogue, read_catalogue, sample_toolset
from orchestra_ray.data.catalogue.released import with_released_tools
from orchestra_ray.data.catalogue.signatures import signatures

ORIGINAL = Path(__file__).parents[3] / "../shared/data/toolorchestra_tools.json"
BASE = "configs/catalogues/orchestrator8b.yaml"
needs_original = pytest.mark.skipif(
    not ORIGINAL.is_file(), reason="no copy of the released tools.json in ../shared/data"
)

# A file of the same form, in our words.
FUNCTION = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "looks it up",
        "parameters": {
            "properties": {
                "model": {
                    "description": (
                        "Who looks. Choices: ['search-1', 'search-3']. search-1 is good. "
                        "search-3 is not. The table below shows what they cost:\n"
                        "Model | in | out | latency\n"
                        "search-1 | $$1.25 | $10 | 22s\nsearch-3 | $0.8 | $0.8 | 8s"
                    ),
                    "type": "string",
                }
            },
            "required": ["model"],
            "title": "parameters",
            "type": "object",
        },
    },
}


def mistake(catalogue: Catalogue, path: Path) -> str:
    with pytest.raises(ConfigError) as error:
        with_released_tools(catalogue, path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


def test_choices_prices_and_latencies_are_read_from_the_description(
    orchestrator8b: Catalogue, write
) -> None:
    path = write(json.dumps([FUNCTION]), "tools.json")
    search = with_released_tools(orchestrator8b, path).entries["search"]
    first, last = search.choices
    assert (first.name, first.model, first.description) == ("search-1", "gpt-5", "is good.")
    assert (last.name, last.model, last.description) == ("search-3", "qwen3-32b", "is not.")
    assert (first.latency_s, last.latency_s) == (22.0, 8.0)
    assert first.prices is not None and last.prices is not None
    assert first.prices.input_nanousd_per_mtok == 1_250_000_000  # "$$1.25", a slip of the original
    assert first.prices.output_nanousd_per_mtok == 10_000_000_000
    assert last.prices.output_nanousd_per_mtok == 800_000_000
    assert (search.backend, search.runs) == ("recipe", "passages")


@settings(max_examples=30)
@given(st.integers(0, 2**62))
def test_it_is_rendered_verbatim_in_every_toolset(
    orchestrator8b: Catalogue, tmp_path_factory: pytest.TempPathFactory, catalogue_config, seed: int
) -> None:
    path = tmp_path_factory.mktemp("released") / "tools.json"
    path.write_text(json.dumps([FUNCTION]))
    catalogue = with_released_tools(orchestrator8b, path)
    toolset = sample_toolset(catalogue, catalogue_config(), seed)
    assert json.dumps(FUNCTION) in [json.dumps(signature) for signature in signatures(toolset)]
    option = toolset.option("search")
    assert option is not None and [c.alias for c in option.choices] == ["search-1", "search-3"]
    assert option.choices[1].prices.input_nanousd_per_mtok == 800_000_000
    assert option.choices[1].latency_s == 8.0
    assert option.parameters["properties"]["model"]["enum"] == ["search-1", "search-3"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"search"', '"find"', "the catalogue has no recipe find; take orchestrator8b.yaml"),
        ("'search-3'", "'search-9'", "search: search-9 has no row in the table; add it"),
        ("search-3", "search-9", "search: search-9 has no model in the catalogue; add it"),
        ("Choices: ", "", "a function without choices of its argument model"),
        ('"function":', '"fun":', "a function without choices of its argument model"),
        ("$$1.25", "$0.00125", "search: search-1: prices.input_usd_per_mtok is 0.00125"),
        ("[{", "[[{", "not JSON"),
        ("[{", "{", "not JSON"),
    ],
)
def test_another_file_is_refused(
    orchestrator8b: Catalogue, write, old: str, new: str, problem: str
) -> None:
    text = json.dumps([FUNCTION])
    assert old in text
    assert problem in mistake(orchestrator8b, write(text.replace(old, new), "tools.json"))


def test_a_file_that_is_not_there_is_named(orchestrator8b: Catalogue, tmp_path: Path) -> None:
    assert "no such file; set catalogue.tools_json" in mistake(orchestrator8b, tmp_path / "no.json")
    assert "not JSON" in mistake(orchestrator8b, tmp_path)


@needs_original
def test_the_original_is_rendered_byte_for_byte(catalogue_config) -> None:
    catalogue = read_catalogue(CatalogueConfig(path=BASE, tools_json=str(ORIGINAL)))
    original = json.loads(ORIGINAL.read_text())
    for seed in range(20):
        rendered = signatures(sample_toolset(catalogue, catalogue_config(), seed))
        assert json.dumps(rendered) == json.dumps(original)


@needs_original
def test_our_file_agrees_with_the_original_in_figures(orchestrator8b: Catalogue) -> None:
    theirs = with_released_tools(orchestrator8b, ORIGINAL)
    assert [tool.name for tool in theirs.offered_tools] == ["enhance_reasoning", "answer", "search"]
    for tool in theirs.offered_tools:
        ours = orchestrator8b.entries[tool.name]
        assert [c.name for c in ours.choices] == [c.name for c in tool.choices]
        for our, their in zip(ours.choices, tool.choices, strict=True):
            prices = orchestrator8b.entries[our.model].prices
            assert (our.latency_s, prices) == (their.latency_s, their.prices)
            assert their.description


@needs_original
def test_our_file_has_no_sentence_of_the_original() -> None:
    def runs(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"[a-z]+", text.lower())
        return {tuple(words[i : i + 5]) for i in range(len(words) - 4)}

    said = re.findall(r"description: ([^}\n]+)", Path(BASE).read_text())
    original = json.dumps(json.loads(ORIGINAL.read_text()))
    assert not set().union(*map(runs, said)) & runs(original)
