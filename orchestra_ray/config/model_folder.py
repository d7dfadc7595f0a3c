"""Where the policy's files are on this machine, whichever way `model.path` names them."""

from pathlib import Path

FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # no second format of weights


def model_folder(path: str) -> str:
    """The folder itself, or that of the hub's model in the cache; downloaded where it is absent.

    Every node calls it for itself; processes of one node wait for each other's download. Raises
    what the hub's client raises.
    """
    if Path(path).is_dir():
        return path
    from huggingface_hub import snapshot_download

    return snapshot_download(path, allow_patterns=FILES)
