import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.weights.tensors import check_folder, policy_shapes, policy_tensors

from ..hub_folders import ALIAS, EMBEDDING, INDEX, ONE_FILE, as_hubs_ship


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def tied(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def folder(tied: bool, tmp_path: Path) -> Path:
    config = Qwen3Config(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=tied,
    )
    Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("buffer", [True, False])
@pytest.mark.parametrize("shards", [1, 3])
def test_what_is_published_is_what_is_expected_of_a_folder_as_hubs_ship_it(
    folder: Path, tied: bool, shards: int, buffer: bool
) -> None:
    as_hubs_ship(folder, alias=tied, buffer=buffer, shards=shards)
    check_folder(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    published = {name: tuple(one.shape) for name, one in policy_tensors(model)}
    assert policy_shapes(folder) == published
    assert (ALIAS in published) is not tied and EMBEDDING in published


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError, match="model.path: ") as caught:
        check_folder(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rewritten(folder: Path, name: str, take: int | None) -> None:
    """The file with one tensor's rows up to `take`; None: without it."""
    tensors = load_file(folder / ONE_FILE)
    whole = tensors.pop(name)
    kept = {} if take is None else {name: whole[:take].clone()}
    save_file(tensors | kept, folder / ONE_FILE, metadata={"format": "pt"})


def test_a_tensor_that_transformers_would_make_up_is_refused(folder: Path, tied: bool) -> None:
    name = EMBEDDING if tied else ALIAS
    rewritten(folder, name, None)
    assert f"{name} is missing, the configuration asks for [64, 32]" in refusal(folder)


def test_a_tensor_of_another_shape_is_refused(folder: Path) -> None:
    rewritten(folder, EMBEDDING, 60)
    assert f"{EMBEDDING} has shape [60, 32]" in refusal(folder)


def test_a_missing_shard_is_refused_and_says_how_much_it_held(folder: Path, tied: bool) -> None:
    as_hubs_ship(folder, alias=tied)
    (folder / "model-00001-of-00002.safetensors").unlink()
    assert (folder / INDEX).exists() and "more like it" in refusal(folder)


def test_an_alias_that_differs_from_what_it_is_tied_to_is_refused(folder: Path, tied: bool) -> None:
    """transformers would untie the two, and the engines would not."""
    as_hubs_ship(folder, alias=tied, shards=1)
    file = folder / "model-00001-of-00001.safetensors"
    tensors = load_file(file)
    tensors[ALIAS] += 1e-3
    save_file(tensors, file, metadata={"format": "pt"})
    if tied:
        assert f"{ALIAS} differs from {EMBEDDING}, to which the config" in refusal(folder)
    else:
        check_folder(folder)


def test_only_the_files_that_transformers_reads_count(folder: Path) -> None:
    tensors = load_file(folder / ONE_FILE)
    name = next(name for name in tensors if "q_proj" in name)
    save_file({name: tensors.pop(name)}, folder / "extra.safetensors", metadata={"format": "pt"})
    save_file(tensors, folder / ONE_FILE, metadata={"format": "pt"})
    assert f"{name} is missing" in refusal(folder)
    (folder / ONE_FILE).rename(folder / "weights.safetensors")
    assert "holds no causal language model" in refusal(folder)


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("quantization_config", {"quant_method": "fp8"}, "its weights are quantised"),
        ("num_attention_heads", 0, "holds no causal language model"),
        ("num_attention_heads", "two", "holds no causal language model"),
    ],
)
def test_a_configuration_that_no_policy_can_have_is_refused(
    folder: Path, key: str, value: object, problem: str
) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    assert problem in refusal(folder)


def test_what_is_no_folder_of_such_a_model_is_refused(folder: Path) -> None:
    half = (folder / ONE_FILE).read_bytes()[:100]
    (folder / ONE_FILE).write_bytes(half)
    assert "holds no causal language model" in refusal(folder)
    (folder / ONE_FILE).unlink()
    assert "holds no causal language model" in refusal(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "none such"}))
    assert "holds no causal language model" in refusal(folder)
    (folder / "config.json").unlink()
    assert "holds no causal language model" in refusal(folder)
