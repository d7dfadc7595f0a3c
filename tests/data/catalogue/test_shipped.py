"""The catalogues in `configs/catalogues/`."""

from pathlib import Path

import pytest

from orchestra_ray.core.money import NANOUSD_PER_USD, Usage
from orchestra_ray.data.catalogue import Catalogue, load_catalogue
from orchestra_ray.data.catalogue.entries import ISOLATION_OF_BACKEND

FOLDER = Path(__file__).parents[3] / "configs/catalogues"
SHEETS = {"prices_together": "paper", "prices_deepinfra": "paper"}
CATALOGUES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in SHEETS)

# Dollars of a million input and a million output tokens.
KNOWN = {
    "gpt-5": (1.25, 10),
    "gpt-5-mini": (0.25, 2),
    "o3-mini": (1.1, 4.4),
    "claude-opus-4.1": (15, 75),
    "claude-sonnet-4.1": (3, 15),
    "llama-3.3-70b": (0.9, 0.9),
    "nemotron-ultra-253b": (0.9, 0.9),
    "qwen3-32b": (0.8, 0.8),
    "qwen2.5-coder-32b": (0.8, 0.8),
    "qwen2.5-math-72b": (0.9, 0.9),
    "qwen2.5-math-7b": (0.2, 0.2),
}


def shipped(name: str, *sheets: str) -> Catalogue:
    return load_catalogue(FOLDER / f"{name}.yaml", [FOLDER / f"{sheet}.yaml" for sheet in sheets])


@pytest.mark.parametrize("name", CATALOGUES)
def test_every_catalogue_loads_at_the_prices_that_are_known(name: str) -> None:
    catalogue = shipped(name)
    for entry in catalogue.models.values():
        assert entry.backend in ("simulated", "endpoint")
        if entry.name in KNOWN:
            usd_in, usd_out = KNOWN[entry.name]
            million_in, million_out = Usage(input_tokens=10**6), Usage(output_tokens=10**6)
            assert entry.prices.cost_nanousd(million_in) == round(usd_in * NANOUSD_PER_USD)
            assert entry.prices.cost_nanousd(million_out) == round(usd_out * NANOUSD_PER_USD)
    for entry in catalogue.entries.values():
        assert entry.isolation is ISOLATION_OF_BACKEND[entry.backend]
        assert {"api_key", "key", "token"}.isdisjoint(entry.settings)


def test_gpt5_stands_in_the_catalogues_that_the_paper_uses() -> None:
    assert [name for name in CATALOGUES if "gpt-5" in shipped(name).models] == [
        "orchestrator8b",
        "paper",
    ]


@pytest.mark.parametrize(("sheet", "base"), SHEETS.items())
def test_every_sheet_prices_open_models_of_its_catalogue(sheet: str, base: str) -> None:
    priced = shipped(base, sheet).sheets[0]
    assert priced.version.startswith(f"{sheet}@")
    assert not {"gpt-5", "gpt-5-mini"} & priced.prices.keys()


def test_the_second_provider_asks_less_of_every_model_that_it_has() -> None:
    together, deepinfra = shipped("paper", "prices_together", "prices_deepinfra").sheets
    assert deepinfra.prices.keys() < together.prices.keys()
    for name, prices in deepinfra.prices.items():
        assert prices.output_nanousd_per_mtok < together.prices[name].output_nanousd_per_mtok


def test_the_papers_own_prices_are_those_of_the_provider_that_it_counts_by() -> None:
    catalogue = shipped("paper", "prices_together")
    for name, prices in catalogue.sheets[0].prices.items():
        assert prices == catalogue.entries[name].prices


def test_the_unseen_models_are_not_in_the_training_catalogue() -> None:
    seen, unseen = shipped("paper").offered_models, shipped("paper_unseen").offered_models
    assert not {entry.name for entry in seen} & {entry.name for entry in unseen}


def test_what_recipes_run_is_the_same_seen_and_unseen() -> None:
    seen, unseen = shipped("paper"), shipped("paper_unseen")
    for name in ("tavily", "passages", "sandbox"):
        assert seen.entries[name] == unseen.entries[name]


def test_no_simulated_expert_is_best_everywhere(catalogue: Catalogue) -> None:
    families = {f for model in catalogue.models.values() for f in model.skill} - {"default"}
    best = {
        max(catalogue.models.values(), key=lambda m: m.skill_at(family)).name for family in families
    }
    assert len(catalogue.models) >= 6 and len(families) >= 6 and len(best) >= 3
