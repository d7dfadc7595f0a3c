"""A run's folder beside the tracker's files: copies of what the run was given, and its name.

The catalogue, price sheets, the released interface and preferences may change after a run, and its
figures mean little without those that it had. A run that ended before its first step has no
figures, and leaves its name to the next one.
"""

from collections.abc import Callable
from itertools import count
from pathlib import Path

from orchestra_ray.config.schema import Config
from orchestra_ray.core.states import Failure
from orchestra_ray.tracking.files import write_text

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


def release_name(folder: Path, figures: str) -> Path | None:
    """Renames the folder if the file `figures` in it has no line; its new path."""
    file = folder / figures
    if not folder.is_dir() or (file.is_file() and file.stat().st_size):
        return None
    names = (folder.with_name(f"{folder.name}.failed-{n}") for n in count(1))
    return folder.rename(next(name for name in names if not name.exists()))


def _free_name(path: str, n: int, given: list[str]) -> str:
    """The file's own name, with its number before it if another file has the same name."""
    name = Path(path).name
    return name if [Path(other).name for other in given].count(name) == 1 else f"{n}-{name}"
