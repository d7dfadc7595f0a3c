"""The tensors of a policy: one definition for the learner, the engines and the check of a folder.

They are the named parameters of the model's transformers class: tied parameters once, under the
first name, and no buffers. A model's folder may hold more, such as the alias of a tied tensor or
buffers, but never less.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from orchestra_ray.core.errors import ConfigError, first_line

Shapes = Mapping[str, tuple[int, ...]]
ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


def policy_tensors(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yields the tensors of a version of the weights, named as in the Hugging Face checkpoint."""
    return model.named_parameters()


def policy_shapes(folder: str | Path) -> Shapes:
    """Returns the shape of each tensor by name, for the model configuration in the folder."""
    return _shapes(_empty_model(folder))


def check_folder(folder: str | Path) -> None:
    """Raises `ConfigError` if the folder's files are not the weights of its configuration.

    transformers would only warn, initialise missing tensors at random and untie differing ones,
    whereas the engines follow the configuration.
    """
    try:
        model, files = _empty_model(folder), _Files(Path(folder))
        problem = _problem(model, files)
    except Exception as error:  # a model's class may raise anything
        why = first_line(error)
        problem = f"it holds no causal language model that can be trained ({why})"
    if problem is not None:
        remedy = "give a folder with the weights of its config.json"
        raise ConfigError(f"model.path: {folder}: {problem}; {remedy}")


def _problem(model: PreTrainedModel, files: "_Files") -> str | None:
    """Returns the problem of the files, or None."""
    if getattr(model.config, "quantization_config", None):
        return "its weights are quantised, and the learner cannot train these"
    expected = _shapes(model)
    differing = [name for name, shape in expected.items() if files.shape(name) != shape]
    if differing:
        name, shape = differing[0], files.shape(differing[0])
        there = "is missing" if shape is None else f"has shape {list(shape)}"
        more = f" (and {len(differing) - 1} more like it)" if len(differing) > 1 else ""
        return f"{name} {there}, the configuration asks for {list(expected[name])}{more}"
    for name, source in (getattr(model, "all_tied_weights_keys", None) or {}).items():
        if name in files and source in files and not files.equal(name, source):
            return f"{name} differs from {source}, to which the configuration ties it"
    return None


def _empty_model(folder: str | Path) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def _shapes(model: nn.Module) -> Shapes:
    return {name: tuple(parameter.shape) for name, parameter in policy_tensors(model)}


class _Files:
    """The tensors in the safetensors files of a folder that transformers reads."""

    def __init__(self, folder: Path):
        if (folder / ONE_FILE).is_file():
            names = {ONE_FILE}
        else:
            names = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
        self._places: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for path in (folder / name for name in sorted(names) if (folder / name).is_file()):
            with safe_open(path, framework="pt") as tensors:
                for name in tensors.keys():
                    self._places[name] = path
                    self._shapes[name] = tuple(tensors.get_slice(name).get_shape())

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def shape(self, name: str) -> tuple[int, ...] | None:
        return self._shapes.get(name)

    def equal(self, one: str, other: str) -> bool:
        return torch.equal(self._read(one), self._read(other))

    def _read(self, name: str) -> torch.Tensor:
        with safe_open(self._places[name], framework="pt") as tensors:
            return tensors.get_tensor(name)
