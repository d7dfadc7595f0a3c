"""Loading: precedence, types, paths, and one line for every error."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from orchestra_ray.config import ConfigError, load
from orchestra_ray.config.enums import KlEstimator, WandbMode, ZeroStage


def mistake(load_with, *overrides, text=None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_with(*overrides, text=text)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_later_files_win_and_overrides_win_over_files(load_with):
    assert load_with(text="learner: {lr: 0.5}").learner.lr == 0.5
    assert load_with("learner.lr=0.25", text="learner: {lr: 0.5}").learner.lr == 0.25
    assert load_with("learner.lr=0.25", "learner.lr=1e-3").learner.lr == 1e-3


def test_sections_merge_and_lists_are_replaced_whole(load_with):
    config = load_with("tasks.families=[{name: lcm}]", text="rollout: {max_turns: 3}")
    assert config.rollout.max_turns == 3 and config.rollout.max_prompt_tokens == 800
    assert [family.name for family in config.tasks.families] == ["lcm"]


def test_an_empty_file_changes_nothing(load_with):
    assert load_with(text="") == load_with()


@pytest.mark.parametrize("text", ["2", "TWO", "two"])
def test_enums_are_given_by_value_or_name(load_with, text):
    assert load_with(f"learner.zero_stage={text}").learner.zero_stage is ZeroStage.TWO


def test_string_enums_are_given_by_value(load_with):
    config = load_with("tracking.wandb=offline", "learner.loss.kl_estimator=k3")
    assert config.tracking.wandb is WandbMode.OFFLINE
    assert config.learner.loss.kl_estimator is KlEstimator.K3


def test_a_dumped_configuration_loads_to_itself(load_with, tmp_path):
    config = load_with("learner.zero_stage=3", "model.tiny.layers=2")
    dump = tmp_path / "dump.yaml"
    dump.write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    assert load([dump]) == config


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("learner: {rl: 1}", ["learner.rl", "no such key", "did you mean learner.lr?"]),
        ("lerner: {lr: 1}", ["lerner", "did you mean learner?"]),
        ("tasks: {families: [{nme: x}]}", ["tasks.families[0].nme", "tasks.families[0].name?"]),
        ("catalogue: {zzz: 1}", ["catalogue.zzz", "the keys of catalogue are path,"]),
        ("1: 2", ["1: no such key"]),
        ("learner: {lr: abc}", ["learner.lr", "'abc'", "takes a number"]),
        ("learner: {ranks: 1.5}", ["learner.ranks", "takes a whole number"]),
        ("learner: {ranks: null}", ["learner.ranks", "takes a whole number"]),
        ("training: {steps: yes}", ["training.steps", "takes a whole number"]),
        ("rollout: {enforce_eager: maybe}", ["rollout.enforce_eager", "true or false"]),
        ("name: [1]", ["name", "takes text"]),
        ("learner: 3", ["learner: is 3", "the keys of learner are ranks"]),
        ("learner:", ["learner: is empty"]),
        ("learner: [1]", ["learner: is [1]"]),
        ("tasks: {families: x}", ["tasks.families", "not a list"]),
        ("tasks: {families: [x]}", ["tasks.families[0]: is 'x'"]),
        ("tasks: {families: [{name: x, settings: {a: b}}]}", ["tasks.families[0].settings.a"]),
        ("catalogue: {price_factors: [1, x]}", ["catalogue.price_factors[1]", "each a number"]),
        ("catalogue: {price_factors: 3}", ["catalogue.price_factors", "a list"]),
        ("learner: {zero_stage: 7}", ["learner.zero_stage", "7", "choose from 1, 2, 3"]),
        ("tracking: {wandb: off}", ["tracking.wandb", "choose from auto, online, offline"]),
        ("model: {seconds_per_token: x}", ["model.seconds_per_token", "a number or null"]),
        ("name: ${nope}", ["name", "nope"]),
        ("name: ${", ["name"]),
        ("- a", ["not keys and values"]),
        ("3", ["give a YAML file"]),
        ("a: !!python/object:os.path 3", [":1:4:"]),
    ],
)
def test_a_bad_file_is_named_with_the_full_key(load_with, text, parts):
    message = mistake(load_with, text=text)
    for part in ["extra.yaml", *parts]:
        assert part in message


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: [1\nb: 2", ":2:2: "),
        ("name: x\nname: y", ":2:1: found duplicate"),
        ("\ta: 1", ":1:1: "),
    ],
)
def test_bad_yaml_is_named_by_line_and_column(load_with, text, place):
    assert f"extra.yaml{place}" in mistake(load_with, text=text)


@pytest.mark.parametrize("override", ["learner.lr", "=1", "a..b=1", ".a=1", "a b=1", "--lr=1", ""])
def test_an_override_without_key_and_value_is_refused(load_with, override):
    message = mistake(load_with, override)
    assert f"override {override!r}" in message


def test_a_bad_value_in_an_override_names_the_override(load_with):
    message = mistake(load_with, "learner.lr=abc", text="learner: {lr: 0.5}")
    assert message.startswith("override 'learner.lr=abc': learner.lr: ")
    assert "override 'name=[1,'" in mistake(load_with, "name=[1,")


def test_an_element_of_a_list_cannot_be_overridden(load_with):
    assert "not a list" in mistake(load_with, "tasks.families.0.name=lcm")


def test_a_bad_range_names_the_last_layer_that_gave_the_key(load_with):
    assert mistake(load_with, "learner.lr=-1").startswith("override 'learner.lr=-1': learner.lr")
    bad = "catalogue: {preferences: [{name: a, instruction: b, cost: 2}]}"
    message = mistake(load_with, text=bad)
    assert "extra.yaml: catalogue.preferences[0].cost: 2.0 is out of range" in message


def test_every_missing_key_is_named(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("tasks: {families: [{}]}")
    with pytest.raises(ConfigError, match="no value for catalogue.path, name, tasks.families"):
        load([path])


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xd0\xff\x00")
    for path in (tmp_path / "absent.yaml", tmp_path, binary):
        with pytest.raises(ConfigError, match=str(path)):
            load([path])


def test_a_catalogue_is_found_from_the_folders_above_the_configuration(load_with, tmp_path):
    (tmp_path / "configs").mkdir()
    catalogue = tmp_path / "configs" / "mine.yaml"
    catalogue.write_text("models: []")
    config = load_with("catalogue.path=configs/mine.yaml")
    assert Path(config.catalogue.path) == catalogue


def test_the_current_folder_comes_before_the_configuration_s(load_with, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    for folder in (here, tmp_path):
        (folder / "mine.yaml").write_text("models: []")
    monkeypatch.chdir(here)
    assert Path(load_with("catalogue.path=mine.yaml").catalogue.path) == here / "mine.yaml"


def test_a_catalogue_that_is_not_there_is_named(load_with):
    message = mistake(load_with, "catalogue.path=nowhere.yaml")
    assert "catalogue.path: nowhere.yaml does not exist" in message
