"""The changes that give a tiny policy another key, and those that do not."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.config import Config
from orchestra_ray.data.catalogue import Catalogue, load_catalogue
from orchestra_ray.data.preferences.load import load_preferences
from orchestra_ray.sft.key import policy_key

CATALOGUE, NOTES = "configs/catalogues/simulated.yaml", "configs/corpora/notes.jsonl"
Change = Callable[[Config, Catalogue], tuple[Config, Catalogue]]
JUDGE = """
  - name: grader
    description: judges answers
    backend: endpoint
    offered: false
    settings: {base_urls: ["http://127.0.0.1:9/v1"], model: m}
    prices: {input_usd_per_mtok: 1}
    latency_s: 1
tools:
"""


def key_of(config: Config, catalogue: Catalogue) -> str:
    return policy_key(config, catalogue, load_preferences(config.catalogue))


def entry(name: str, **changed: Any) -> Change:
    def change(config: Config, catalogue: Catalogue) -> tuple[Config, Catalogue]:
        one = replace(catalogue.entries[name], **changed)
        return config, replace(catalogue, entries={**catalogue.entries, name: one})

    return change


def part(section: str, **changed: Any) -> Change:
    def change(config: Config, catalogue: Catalogue) -> tuple[Config, Catalogue]:
        return replace(config, **{section: replace(getattr(config, section), **changed)}), catalogue

    return change


@pytest.mark.parametrize(
    "change",
    [
        part("tasks", judge="exact", heldout_size=7, path="some.jsonl"),
        part("judge", model="grader"),
        part("learner", lr=1.0),
        part("catalogue", path="elsewhere.yaml"),
        entry("nova", version="9", skill={"default": 0.1}, output_tokens=1),
    ],
)
def test_what_no_demonstration_shows_makes_no_other_policy(
    quickstart: Config, catalogue: Catalogue, change: Change
) -> None:
    assert key_of(*change(quickstart, catalogue)) == key_of(quickstart, catalogue)


@pytest.mark.parametrize(
    "change",
    [
        part("tasks", train_seed=1),
        part("tasks", families=[]),
        part("catalogue", models_max=5),
        part("rollout", max_observation_tokens=9),
        entry("nova", description="fast at all"),
        entry("nova", latency_s=61.0),
        entry("nova", offered=False),
        entry("search", settings={"corpus": NOTES, "top_k": 2}),
        entry("search", settings={"corpus": CATALOGUE, "top_k": 1}),
    ],
)
def test_what_a_demonstration_shows_makes_another_policy(
    quickstart: Config, catalogue: Catalogue, change: Change
) -> None:
    assert key_of(*change(quickstart, catalogue)) != key_of(quickstart, catalogue)


def test_an_entry_that_is_not_on_offer_changes_nothing_unless_a_description_names_it(
    quickstart: Config, catalogue: Catalogue, tmp_path: Path
) -> None:
    file = tmp_path / "catalogue.yaml"
    file.write_text(Path(CATALOGUE).read_text().replace("\ntools:\n", JUDGE))
    graded = load_catalogue(file)
    assert "grader" in graded.entries
    assert key_of(quickstart, graded) == key_of(quickstart, catalogue)
    named = entry("search", description="finds what grader reads")
    assert key_of(*named(quickstart, graded)) != key_of(*named(quickstart, catalogue))


def test_another_checkout_has_the_same_policy(
    quickstart: Config, catalogue: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = key_of(quickstart, catalogue)
    shutil.copytree("configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    assert key_of(quickstart, load_catalogue(tmp_path / CATALOGUE)) == first
