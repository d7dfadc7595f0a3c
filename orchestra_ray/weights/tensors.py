"""The tensors of a policy: one definition for the learner, the engines and the check of a folder.

They are the named parameters of the model's transformers class: a tied one once, under its first
name, and no buffers. A model's folder may hold more, such as the alias of a tied tensor or buffers
that older versions saved, and never less.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from orchestra_ray.core.errors import ConfigError

Shapes = Mapping[str, tuple[int, ...]]


def policy_tensors(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """What a version of the weights consists of, by the names of the Hugging Face checkpoint."""
    return model.named_parameters()


def policy_shapes(folder: str | Path) -> Shapes:
    """Name and shape of each tensor of the model whose configuration stands in the folder."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return {name: tuple(parameter.shape) for name, parameter in policy_tensors(model)}


def check_folder(folder: str | Path) -> None:
    """Raises `ConfigError` if a tensor of the model is not in the folder, or has another shape.

    transformers would make up what is missing, and only warn.
    """
    try:
        expected, found = policy_shapes(folder), _file_shapes(Path(folder))
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"model.path: {folder} holds no causal language model ({why})") from None
    differing = [name for name, shape in expected.items() if found.get(name) != shape]
    if differing:
        name, more = differing[0], len(differing) - 1
        shape = found.get(name)
        there = "is missing" if shape is None else f"has shape {list(shape)}"
        others = f" (and {more} more like it)" if more else ""
        raise ConfigError(
            f"model.path: {folder}: {name} {there}, the configuration asks for "
            f"{list(expected[name])}{others}; give a folder with the weights of its config.json"
        )


def _file_shapes(folder: Path) -> Shapes:
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as tensors:
            shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}
    if not shapes:
        raise FileNotFoundError("there are no safetensors files in it")
    return shapes
