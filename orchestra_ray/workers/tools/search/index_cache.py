"""A cache of index folders, which are built atomically: complete under their name, or absent.

The name is a digest of all that the folder depends on. A manifest has the SHA-256 of each file,
compared at every opening: a folder damaged by a full disk or a lost node is rebuilt, and never
searched. Concurrent processes wait for the first, which builds.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from orchestra_ray.core.errors import ConfigError

MANIFEST = "manifest.json"


def open_cached(folder: Path, build: Callable[[Path], None]) -> Path:
    """Returns the complete `folder`; if it is absent or damaged, `build` fills an empty one."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock")):
            if not _is_complete(folder):
                _build(folder, build)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"search cache {folder}: {reason}; set cache_dir to a folder on a disk with room"
        ) from None
    return folder


def digest(files: Mapping[str, Path], **settings: object) -> str:
    """Returns a digest of names, contents and settings, independent of location and time."""
    try:
        checksums = {name: _checksum(path) for name, path in files.items()}
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; make it readable") from None
    key = json.dumps([checksums, settings], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # the kernel releases it when the process ends
        yield


def _is_complete(folder: Path) -> bool:
    try:
        return json.loads((folder / MANIFEST).read_bytes()) == _checksums(folder)
    except (OSError, ValueError):
        return False


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    partial.mkdir()
    try:
        build(partial)
        (partial / MANIFEST).write_text(json.dumps(_checksums(partial)))
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _checksums(folder: Path) -> dict[str, str]:
    return {path.name: _checksum(path) for path in folder.iterdir() if path.name != MANIFEST}
