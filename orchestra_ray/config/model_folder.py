"""Where the policy's files are on this machine, whichever way `model.path` names them."""

import json
from pathlib import Path
from typing import Any

from orchestra_ray.config.errors import BadValue
from orchestra_ray.core.errors import ConfigError

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # no second format of weights
TEXT_FILES = [pattern for pattern in FILES if pattern != "*.safetensors"]


def model_folder(path: str, weights: bool = True) -> str:
    """The folder itself, or that of the hub's model in the cache; downloaded where it is absent.

    Every node calls it for itself; processes of one node wait for each other's download. Without
    `weights` only configuration and tokenizer are there for sure. Raises what the hub's client
    raises.
    """
    if Path(path).is_dir():
        return path
    from huggingface_hub import snapshot_download

    return snapshot_download(path, allow_patterns=FILES if weights else TEXT_FILES)


def not_from_hub(path: str, error: Exception) -> BadValue:
    """In one line: that the hub's client raised `error` for this model."""
    problem = f"{path} is no folder here, and the hub does not give it ({type(error).__name__})"
    return BadValue("model.path", problem, "give a folder, or a name the hub knows")


def stop_token_ids(folder: str) -> tuple[int, ...]:
    """The ids that end a generation, by the generation config, else by the model's own config.

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
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(f"{file}: cannot be read ({why}); correct it") from None
    return content if isinstance(content, dict) else {}
