"""The files of a run's folder that the tracker does not write: copies of the inputs; and its name.

The catalogue, price sheets, the released interface and preferences may change after a run, so they
are copied. A run that ended before its first step has no metrics, so its name can be used again.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from pathlib import Path

from orchestra_ray.config.schema import Config
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import Failure
from orchestra_ray.tracking.files import write_text
from orchestra_ray.workers.tools.replay.store import CassetteStore

INPUTS = "inputs"


def copy_inputs(folder: Path, config: Config, hide: Callable[[str], str]) -> list[Failure]:
    """Copies the inputs into `folder`/inputs, without secrets; returns the failures."""
    catalogue = config.catalogue
    given = [catalogue.path, *catalogue.price_sheets]
    given += filter(None, [catalogue.tools_json, catalogue.preferences_path])
    (folder / INPUTS).mkdir(exist_ok=True)
    copies = {_free_name(path, n, given): Path(path) for n, path in enumerate(given)}
    failures = [
        write_text(folder / INPUTS / name, hide(path.read_text(encoding="utf-8")))
        for name, path in copies.items()
    ]
    return [failure for failure in failures if failure is not None]


@contextmanager
def releasing_unused_name(folder: Path, figures: str, recording: Path) -> Iterator[None]:
    """Renames the folder that the block created if the block fails without results in it.

    figures: the name of the file of results. recording: the cassette, whose calls were paid for if
    it is in the folder. A folder that existed before is left alone.
    """
    is_new = not folder.exists()
    try:
        yield
    except BaseException:
        if is_new and not _has_results(folder, figures, recording):
            _release(folder)
        raise


def _has_results(folder: Path, figures: str, recording: Path) -> bool:
    file = folder / figures
    if file.is_file() and file.stat().st_size:
        return True
    if recording.parent != folder.absolute() or not recording.is_file():
        return False
    try:
        store = CassetteStore(recording, writable=False)
    except ConfigError:
        return True  # an unreadable cassette may hold calls
    with closing(store):
        return not store.was_empty


def _release(folder: Path) -> None:
    names = (folder.with_name(f"{folder.name}.failed-{n}") for n in count(1))
    try:
        moved = folder.rename(next(name for name in names if not name.exists()))
    except OSError:  # absent or not movable: the run's own error matters more
        return
    line = f"run folder: {moved}; the name {folder.name} is free for another run"
    print(line, file=sys.stderr)


def _free_name(path: str, n: int, given: list[str]) -> str:
    """Returns the name of the file, prefixed with its number if another file has the same name."""
    name = Path(path).name
    return name if [Path(other).name for other in given].count(name) == 1 else f"{n}-{name}"
