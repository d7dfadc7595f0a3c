"""A run's folder beside the tracker's files: copies of what the run was given, and its name.

The catalogue, price sheets, the released interface and preferences may change after a run, and its
figures mean little without those that it had. A run that ended before its first step has no
figures, and leaves its name to the next one.
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


def keep_inputs(folder: Path, config: Config, hide: Callable[[str], str]) -> list[Failure]:
    """Copies them into `folder`/inputs, without secrets; what could not be copied."""
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
def name_of_a_run(folder: Path, figures: str, recording: Path) -> Iterator[None]:
    """Around the run that makes the folder: one that leaves nothing there leaves its name free.

    figures: the file of them in the folder. recording: the cassette; what stands in the folder's
    own was paid for. A folder that was there before belongs to another run, or to one to go on.
    """
    is_new = not folder.exists()
    try:
        yield
    except BaseException:
        if is_new and not _is_worth_going_on(folder, figures, recording):
            _release(folder)
        raise


def _is_worth_going_on(folder: Path, figures: str, recording: Path) -> bool:
    file = folder / figures
    if file.is_file() and file.stat().st_size:
        return True
    if recording.parent != folder.absolute() or not recording.is_file():
        return False
    try:
        store = CassetteStore(recording, writable=False)
    except ConfigError:
        return True  # what cannot be read may hold calls
    with closing(store):
        return not store.was_empty


def _release(folder: Path) -> None:
    names = (folder.with_name(f"{folder.name}.failed-{n}") for n in count(1))
    try:
        moved = folder.rename(next(name for name in names if not name.exists()))
    except OSError:  # not there, or not to be moved: the run's own error is what to tell
        return
    line = f"run folder: {moved}; the name {folder.name} is free for another run"
    print(line, file=sys.stderr)


def _free_name(path: str, n: int, given: list[str]) -> str:
    """The file's own name, with its number before it if another file has the same name."""
    name = Path(path).name
    return name if [Path(other).name for other in given].count(name) == 1 else f"{n}-{name}"
