import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.money import Prices, nanousd
from orchestra_ray.data.catalogue import Catalogue, sample_toolset
from orchestra_ray.data.catalogue.signatures import ASK, SUBMIT, price_words, signatures


def named(toolset, submit: bool = False) -> dict:
    return {s["function"]["name"]: s["function"] for s in signatures(toolset, submit)}


@given(st.integers(0, 2**62))
def test_models_stand_in_one_table_with_prices_and_latencies(
    catalogue: Catalogue, catalogue_config, seed: int
) -> None:
    toolset = sample_toolset(catalogue, catalogue_config(), seed)
    model = named(toolset)[ASK]["parameters"]["properties"]["model"]
    options = [option for option in toolset.options if option.kind == "model"]
    lines = model["description"].splitlines()[1:]
    assert model["enum"] == [option.alias for option in options]
    for option, line in zip(options, lines, strict=True):
        price = option.prices.output_nanousd_per_mtok / 1e9
        assert line == f"{option.alias}: {option.description}; ${price:g}, {option.latency_s:g} s"


def test_a_tool_tells_its_price_and_latency(catalogue: Catalogue, catalogue_config) -> None:
    config = catalogue_config(latency_factors=[1.0])
    functions = [named(sample_toolset(catalogue, config, seed)) for seed in range(20)]
    described = {f["calculator"]["description"] for f in functions if "calculator" in f}
    assert described == {"computes an expression; free, 0.1 s"}


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        (Prices(), "free"),
        (Prices(search_nanousd=nanousd(0.01)), "$0.01 a search"),
        (Prices(second_nanousd=nanousd(8.3e-6)), "$0.0000083 a second"),
        (
            Prices(2 * 10**9, 0, 10 * 10**9, nanousd(0.5)),
            "$0.5 a call, $2/$10 per M tokens",
        ),
        (Prices(10**9, 0, 10**9), "$1 per M tokens"),
    ],
)
def test_prices_are_said_in_few_words(prices: Prices, words: str) -> None:
    assert price_words(prices) == words


def test_a_recipe_has_one_argument_with_a_table_of_its_choices(
    orchestrator8b: Catalogue, catalogue_config
) -> None:
    config = catalogue_config(
        aliases=False, models_min=6, models_max=6, price_factors=[1.0], latency_factors=[1.0]
    )
    functions = named(sample_toolset(orchestrator8b, config, 1))
    assert list(functions) == ["enhance_reasoning", "answer", "search"]
    model = functions["answer"]["parameters"]["properties"]["model"]
    assert model["enum"] == [f"answer-{n}" for n in (1, 2, 3, 4, "math-1", "math-2")]
    lines = model["description"].splitlines()
    assert lines[0].startswith("answer-1: calls functions well")
    assert "answer-1 | $1.25 | $10 | 96 s" in lines and "answer-math-2 | $0.2 | $0.2 | 9 s" in lines
    assert functions["enhance_reasoning"]["description"].endswith(
        "; $0.0000083 a second, and tokens"
    )


@given(st.integers(0, 2**62), st.booleans())
def test_a_call_by_its_signature_fits_what_calls_are_checked_by(
    paper: Catalogue, catalogue_config, seed: int, aliases: bool
) -> None:
    toolset = sample_toolset(paper, catalogue_config(aliases=aliases), seed)
    for option in toolset.options:
        if option.choices:
            enum = named(toolset)[option.alias]["parameters"]["properties"]["model"]["enum"]
            for choice in enum:
                jsonschema.validate({"model": choice}, option.parameters)
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({"model": "nobody"}, option.parameters)


def test_submit_is_there_where_it_is_offered(catalogue: Catalogue, catalogue_config) -> None:
    toolset = sample_toolset(catalogue, catalogue_config(), 1)
    assert SUBMIT in named(toolset, submit=True) and SUBMIT not in named(toolset)


def test_without_models_to_ask_there_is_no_ask(orchestrator8b: Catalogue, catalogue_config) -> None:
    assert ASK not in named(sample_toolset(orchestrator8b, catalogue_config(), 1))
