from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.catalogue import Catalogue, draw_offers, load_catalogue
from orchestra_ray.catalogue.signatures import signatures
from orchestra_ray.config import Config
from orchestra_ray.core.errors import ConfigError

MODEL = """models:
  - {name: m, description: d, input_usd_per_mtok: 1, output_usd_per_mtok: 2, latency_s: 1,
     output_tokens: 10, skill: {default: 0.5}}
"""


def test_no_expert_is_best_everywhere(catalogue: Catalogue) -> None:
    families = {f for model in catalogue.models.values() for f in model.skill} - {"default"}
    best = {
        max(catalogue.models.values(), key=lambda m: m.skill_at(family)).name for family in families
    }
    assert len(catalogue.models) >= 6 and len(families) >= 6 and len(best) >= 3


@settings(max_examples=200)
@given(st.integers(0, 2**62))
def test_a_draw_is_a_function_of_its_seed_and_keeps_its_bounds(
    catalogue: Catalogue, quickstart: Config, seed: int
) -> None:
    config = quickstart.catalogue
    draw = draw_offers(catalogue, config, seed)
    assert draw == draw_offers(catalogue, config, seed)
    models = [offer for offer in draw.offers if offer.kind == "model"]
    assert config.models_min <= len(models) <= config.models_max
    assert len({offer.alias for offer in draw.offers}) == len(draw.offers)
    for offer in models:
        listed = catalogue.models[offer.identity].output_nanousd_per_mtok
        assert offer.output_nanousd_per_mtok in {round(listed * f) for f in config.price_factors}


def test_signatures_name_prices_as_dollars(catalogue: Catalogue, quickstart: Config) -> None:
    draw = draw_offers(catalogue, quickstart.catalogue, 3)
    ask = signatures(draw)[0]["function"]
    table = ask["parameters"]["properties"]["model"]["description"]
    offer = draw.offers[0]
    assert f"${offer.output_nanousd_per_mtok / 1e9:g}, {offer.latency_s:g} s" in table


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("output_usd_per_mtok: 2", "output_usd_per_mtok: -2"), "m: output_usd_per_mtok is -2"),
        (("latency_s: 1", "latency_s: -1"), "latency_s is -1"),
        (("default: 0.5", "default: 1.5"), r"skill.default is 1.5; it must lie in \[0, 1\]"),
        (("default: 0.5", "gcd: 0.5"), "skill has no default"),
        (("name: m", "nome: m"), "nome"),
        (("latency_s: 1", "latency_s: soon"), "latency_s"),
        (("description: d, ", ""), "description"),
    ],
)
def test_a_bad_entry_is_named(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    path = tmp_path / "catalogue.yaml"
    path.write_text(MODEL)
    load_catalogue(path)
    path.write_text(MODEL.replace(*change))
    with pytest.raises(ConfigError, match=problem) as error:
        load_catalogue(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_an_absent_catalogue_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_catalogue(tmp_path / "none.yaml")
