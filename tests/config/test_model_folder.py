import json
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.config.model_folder import model_folder, stop_token_ids
from orchestra_ray.core.errors import ConfigError


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert model_folder(str(tmp_path)) == str(tmp_path)


def test_a_name_of_the_hub_is_its_snapshot_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0" * 40
    model = tmp_path / "models--some--model"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(commit)
    snapshot = model / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert model_folder("some/model") == str(snapshot)


@pytest.mark.parametrize(
    ("generation", "model", "ids"),
    [
        ({"eos_token_id": [151645, 151643]}, {"eos_token_id": 151645}, (151645, 151643)),
        ({"eos_token_id": 7}, {"eos_token_id": 8}, (7,)),
        ({"eos_token_id": None}, {"eos_token_id": [8, 9]}, (8, 9)),
        ({}, {"eos_token_id": 8}, (8,)),
        (None, {"eos_token_id": 0}, (0,)),
        (None, None, ()),
        ({"eos_token_id": True}, {"eos_token_id": -1}, ()),
        ([], {"eos_token_id": ["</s>", 4]}, (4,)),
    ],
)
def test_generation_stops_where_the_generation_config_says_else_the_models_own(
    tmp_path: Path, generation: Any, model: Any, ids: tuple[int, ...]
) -> None:
    for name, content in (("generation_config", generation), ("config", model)):
        if content is not None:
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert stop_token_ids(str(tmp_path)) == ids


def test_a_configuration_that_cannot_be_read_is_told_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "generation_config.json"
    file.write_bytes(b"\xef\xbb\xbf" + b'{"eos_token_id": 7}')
    assert stop_token_ids(str(tmp_path)) == (7,)
    file.write_text("{oops")
    with pytest.raises(ConfigError, match=r"generation_config.json: cannot be read \(Expecting"):
        stop_token_ids(str(tmp_path))
