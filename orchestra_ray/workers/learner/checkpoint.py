"""Atomic folders: written under a temporary name, then renamed."""

import shutil
from pathlib import Path

_TOKENIZER_FILES = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
)


def partial_of(path: Path) -> Path:
    """Returns the temporary name of `path`, in the same folder so that renaming is atomic."""
    return path.with_name(f".{path.name}.partial")


def begin(path: Path) -> None:
    """Creates an empty folder at `partial_of(path)`."""
    shutil.rmtree(partial_of(path), ignore_errors=True)
    partial_of(path).mkdir(parents=True)


def commit(path: Path) -> None:
    """Renames the written folder to `path`, replacing an existing one."""
    replaced = path.with_name(f".{path.name}.replaced")
    if path.exists():
        path.rename(replaced)
    partial_of(path).rename(path)
    shutil.rmtree(replaced, ignore_errors=True)


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies the tokenizer files byte for byte, so that tokenisation does not change."""
    for pattern in _TOKENIZER_FILES:
        for file in source.glob(pattern):
            shutil.copy2(file, target / file.name)
