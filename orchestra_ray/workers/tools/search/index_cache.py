"""Folders that are built once: under its final name a folder is whole, or it is not there.

A folder is named after a digest of all that it depends on. It holds a manifest with the SHA-256 of
each of its files, compared at every opening: what a full disk or a lost node left damaged is built
again and never searched. Processes that ask at once wait for the first, which builds.
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
    """`folder`, whole; `build` fills an empty folder where it is not there or is damaged."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.with_suffix(".lock")):
            if not _is_whole(folder):
                _build(folder, build)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"search cache {folder}: {reason}; set cache_dir to a folder on a disk with room"
        ) from None
    return folder


def digest(files: Mapping[str, Path], **settings: object) -> str:
    """Of names, contents and settings: the same wherever the files lie and whenever written."""
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
        fcntl.flock(file, fcntl.LOCK_EX)  # the kernel frees it when its process ends, however
        yield


def _is_whole(folder: Path) -> bool:
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
