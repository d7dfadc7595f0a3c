"""The policy's files on this machine, for a `model.path` that is a folder or a name on the Hub."""

import json
from pathlib import Path
from typing import Any

from orchestra_ray.config.errors import BadValue
from orchestra_ray.core.errors import ConfigError, first_line

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # no second format of weights
TEXT_FILES = [pattern for pattern in FILES if pattern != "*.safetensors"]


def model_folder(path: str, weights: bool = True) -> str:
    """Returns the folder itself, or the Hub's model in the cache, downloaded if it is absent.

    Every node calls it; processes of one node wait for each other's download. weights: if False,
    only the configuration and the tokenizer are downloaded. Raises the errors of the Hub's client.
    """
    if Path(path).is_dir():
        return path
    from huggingface_hub import snapshot_download

    return snapshot_download(path, allow_patterns=FILES if weights else TEXT_FILES)


def not_from_hub(path: str, error: Exception) -> BadValue:
    """Returns the error of the Hub's client for this model as a `BadValue`."""
    problem = f"{path} is no folder here and not available on the Hub ({type(error).__name__})"
    return BadValue("model.path", problem, "give a folder, or the name of a model on the Hub")


def stop_token_ids(folder: str) -> tuple[int, ...]:
    """Returns the ids that end a generation: the generation config's, else the model config's.

    Raises `ConfigError` if one of these files cannot be read.
    """
    for name in ("generation_config.json", "config.json"):
        given = _read(Path(folder) / name).get("eos_token_id")
        ids = given if isinstance(given, list) else [given]
        found = tuple(i for i in ids if isinstance(i, int) and not isinstance(i, bool) and i >= 0)
        if found:
            return found
    return ()


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read ({first_line(error)}); correct it") from None
    return content if isinstance(content, dict) else {}
