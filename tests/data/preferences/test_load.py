"""Preferences from the configuration and from a file, and which of them a toolset can serve."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.config.schema import CatalogueConfig, PreferenceConfig
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import Preference, ToolOption, ToolsetSample
from orchestra_ray.data.preferences.load import (
    Pair,
    Split,
    load_heldout_preferences,
    load_preferences,
    read_pairs,
    servable,
    write_pairs,
)

LINE = '{"name": "a", "instruction": "b", "outcome": 1, "cost": 0, "latency": 0, "cell": "train"}'
INLINE = PreferenceConfig(name="exact", instruction="Be right.", cost=0.2)


def intent(name: str, **tools: float) -> Preference:
    return Preference(name, f"Words of {name}.", 0.6, 0.0, 0.3, tools)


PAIRS = [Pair(intent(cell.value, search=1.0), cell, "like", ("like.1",)) for cell in Split]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "pairs.jsonl", PAIRS)
    return tmp_path / "pairs.jsonl"


def config(file: Path | None, *own: PreferenceConfig) -> CatalogueConfig:
    path = None if file is None else str(file)
    return CatalogueConfig(path="none", preferences=list(own), preferences_path=path)


def names(preferences: list[Preference]) -> list[str]:
    return [preference.name for preference in preferences]


def test_training_takes_the_configurations_own_and_the_files_training_cell(file: Path) -> None:
    loaded = load_preferences(config(file, INLINE))
    assert loaded == [Preference("exact", "Be right.", 1.0, 0.2, 0.0), PAIRS[0].preference]


def test_measuring_takes_what_the_file_holds_out(file: Path) -> None:
    heldout = load_heldout_preferences(config(file, INLINE))
    assert heldout == [pair.preference for pair in PAIRS[1:]]


def test_without_a_file_both_take_the_configurations_own(tmp_path: Path) -> None:
    own = config(None, INLINE)
    assert names(load_preferences(own)) == names(load_heldout_preferences(own)) == ["exact"]
    write_pairs(tmp_path / "all.jsonl", PAIRS[:1])
    trained = config(tmp_path / "all.jsonl", INLINE)
    assert names(load_heldout_preferences(trained)) == ["exact"]


def test_a_share_deals_a_preference_so_often() -> None:
    own = config(None, INLINE, PreferenceConfig("quick", "Be quick.", share=2))
    for load in (load_preferences, load_heldout_preferences):
        assert names(load(own)) == ["exact", "quick", "quick"]
    assert names(load_heldout_preferences(own, ["quick"])) == ["quick"]


def test_measuring_can_be_kept_to_some_users(file: Path) -> None:
    users = [Split.NEW_BOTH.value, Split.NEW_WORDING.value]
    assert names(load_heldout_preferences(config(file, INLINE), users)) == users
    with pytest.raises(ConfigError, match=r"evaluation.preferences: 'exact' is unknown; choose"):
        load_heldout_preferences(config(file, INLINE), ["exact"])


@given(
    st.lists(
        st.builds(
            Pair,
            st.builds(
                Preference,
                st.uuids().map(str),
                st.text(min_size=1).filter(str.strip),
                st.floats(0, 1),
                st.floats(0, 1),
                st.floats(0, 1),
                st.dictionaries(st.text(), st.floats(0, 1), max_size=3),
            ),
            st.sampled_from(Split),
            st.text(),
            st.tuples(st.text()),
        ),
        min_size=1,
        max_size=5,
        unique_by=lambda pair: pair.preference.name,
    )
)
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, pairs: list) -> None:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    write_pairs(path, pairs)
    assert read_pairs(path) == pairs


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (LINE.replace('"cost": 0', '"cost": 2'), ["line 1: cost", "[0, 1]"]),
        (LINE.replace('"cost": 0', '"cost": NaN'), ["line 1: cost"]),
        (LINE.replace("train", "test"), ["line 1: cell", "'new_wording'"]),
        (LINE.replace('"cost"', '"coast"'), ["line 1: coast"]),
        (LINE.replace('"instruction": "b"', '"instruction": " "'), ["instruction: it is empty"]),
        (f"{LINE}\n\n{LINE}", ["line 3: a occurs twice"]),
        (f"{LINE}\n{{", ["line 2: it: Invalid JSON"]),
        ("[]", ["line 1: it"]),
        ("\n", ["is empty", "orchestra preferences make"]),
    ],
)
def test_a_bad_file_is_told_in_a_line(tmp_path: Path, text: str, parts: list[str]) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_pairs(path)
    assert all(part in str(error.value) for part in [str(path), *parts]), error.value
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_and_a_name_that_is_taken(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read .*set catalogue.preferences_path"):
        load_preferences(config(tmp_path / "no.jsonl", INLINE))
    with pytest.raises(ConfigError, match="train is also in catalogue.preferences"):
        load_preferences(config(file, PreferenceConfig(name="train", instruction="a")))


def test_a_toolset_serves_those_that_like_what_it_has_or_nothing() -> None:
    option = ToolOption("search", "search", "tool", "searches", Prices(), 1.0)
    plain, here, gone = intent("plain"), intent("here", search=1.0), intent("gone", python=1.0)
    nothing = intent("nothing", python=0.0)
    assert servable([plain, here, gone, nothing], ToolsetSample(0, (option,))) == [
        plain,
        here,
        nothing,
    ]
    assert servable([gone], ToolsetSample(0, (option,))) == [gone]


@pytest.mark.parametrize("key", ["model:qwen3-32b", "family:qwen"])
def test_a_liked_model_or_family_is_served_by_itself_or_behind_a_recipe(key: str) -> None:
    model = ToolOption("model-1", "qwen3-32b", "model", "", Prices(), 1.0)
    recipe = ToolOption("answer", "answer", "tool", "", Prices(), 1.0, choices=(model,))
    other = ToolOption("model-2", "llama-70b", "model", "", Prices(), 1.0)
    liked, plain = intent("liked", **{key: 1.0}), intent("plain")
    for option in (model, recipe):
        assert servable([liked, plain], ToolsetSample(0, (other, option))) == [liked, plain]
    assert servable([liked, plain], ToolsetSample(0, (other,))) == [plain]


def test_a_tool_is_no_model_of_its_name() -> None:
    tool = ToolOption("qwen", "qwen", "tool", "", Prices(), 1.0)
    liked, plain = intent("liked", **{"model:qwen": 1.0}), intent("plain")
    assert servable([liked, plain], ToolsetSample(0, (tool,))) == [plain]
