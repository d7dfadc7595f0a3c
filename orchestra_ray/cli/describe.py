"""`orchestra tools describe`: models tried on tasks, and described by another that saw them.

Everything that can be refused is refused before the first call is paid. What was spent is printed,
however it ends.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestra_ray.cli.ledger import ledger_table
from orchestra_ray.cli.tables import show
from orchestra_ray.config.schema import Config
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.records import Task
from orchestra_ray.data.catalogue import Catalogue, read_catalogue
from orchestra_ray.data.catalogue.describe import BadDescription, describe, write_described
from orchestra_ray.data.catalogue.describe import with_description as replaced
from orchestra_ray.data.tasks.reasoning_gym import TaskSource
from orchestra_ray.sandbox.family_scorer import require
from orchestra_ray.spend.budget import limits_of
from orchestra_ray.spend.ledger import table
from orchestra_ray.spend.local import LocalSpendClient
from orchestra_ray.spend.summary import By, spend_summary
from orchestra_ray.workers.tools.standalone import StandaloneCaller, pick_tasks

CANNOT_WRITE = "simulated"  # the executor of experts that know tasks and no words


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whom to describe, by whom, on how many tasks, and where the copy goes."""

    models: Sequence[str]
    by: str
    tasks: int
    target: Path


def describe_models(
    config: Config, models: Sequence[str], by: str | None, tasks: int, out: str | None
) -> int:
    """How many of the models have no new description. `models` empty: all that are offered."""
    catalogue = read_catalogue(config.catalogue)
    wanted = resolve(config, catalogue, models, by, tasks, out)
    chosen = pick_tasks(TaskSource.train(config.tasks), tasks, config.seed)
    books = LocalSpendClient(limits_of(config.spend), config.name)
    try:
        found = asyncio.run(_describe_all(catalogue, wanted, chosen, books, config.seed))
    finally:
        if books.entries:
            show(ledger_table(spend_summary(table(config.name, books.entries), By.MODEL), By.MODEL))
    if found:
        write_described(Path(config.catalogue.path), wanted.target, found)
        print(f"written: {wanted.target}; catalogue.path={wanted.target} uses it")
    return len(wanted.models) - len(found)


def resolve(
    config: Config,
    catalogue: Catalogue,
    models: Sequence[str],
    by: str | None,
    tasks: int,
    out: str | None,
) -> Wanted:
    """`ConfigError` where it cannot be done, before anything is spent."""
    source = Path(config.catalogue.path)
    writer = by or _dearest_writer(catalogue)
    asked = list(dict.fromkeys(models)) or [
        entry.name for entry in catalogue.offered_models if entry.name != writer
    ]
    for option, name in (("--by", writer), *(("--model", name) for name in asked)):
        if name not in catalogue.models:
            known = ", ".join(catalogue.models)
            raise ConfigError(f"{option} {name}: no such model; choose from: {known}")
    if writer in asked:
        raise ConfigError(f"--by {writer}: a model is described by another; choose one")
    if catalogue.entries[writer].backend == CANNOT_WRITE:
        raise ConfigError(f"--by {writer}: a simulated expert writes nothing; name another")
    text = source.read_text(encoding="utf-8")
    for name in asked:
        replaced(text, name, "words")
    target = Path(out) if out is not None else source.with_name(f"{source.stem}_described.yaml")
    if target.exists():
        raise ConfigError(f"--out {target}: the file exists; give the copy another name")
    if not target.parent.is_dir():
        raise ConfigError(f"--out {target}: no folder {target.parent}; make it first")
    require(family.name for family in config.tasks.families)
    return Wanted(asked, writer, tasks, target)


def _dearest_writer(catalogue: Catalogue) -> str:
    able = [entry for entry in catalogue.models.values() if entry.backend != CANNOT_WRITE]
    if not able:
        raise ConfigError(
            "catalogue: no model of it can write a description; add one with an endpoint,"
            " offered: false, and name it with --by"
        )
    return max(able, key=lambda entry: entry.prices.output_nanousd_per_mtok).name


async def _describe_all(
    catalogue: Catalogue, wanted: Wanted, tasks: Sequence[Task], books: LocalSpendClient, seed: int
) -> dict[str, str]:
    caller = StandaloneCaller(catalogue, [*wanted.models, wanted.by], books, seed)
    found: dict[str, str] = {}
    try:
        for name in wanted.models:
            try:
                found[name] = await _described(caller, catalogue, name, wanted.by, tasks)
            except ConfigError as error:
                print(f"error: {error}", file=sys.stderr)
    finally:
        await caller.close()
    return found


async def _described(
    caller: StandaloneCaller, catalogue: Catalogue, name: str, by: str, tasks: Sequence[Task]
) -> str:
    tried = await caller.try_out(name, tasks)
    right = sum(trial.success for trial in tried.trials)
    faults = "".join(f", {count} {kind}" for kind, count in tried.faults.items())
    print(f"{name}: {right} of {len(tried.trials)} right{faults}", flush=True)
    ask, entry = caller.asking(by, name), catalogue.entries[name]
    try:
        text = await describe(entry, tried.trials, ask, caller.patience_s(by))
    except BadDescription as error:
        problem = f"what it wrote of {name} cannot stand in a catalogue: {error}"
        raise ConfigError(f"{by}: {problem} Name another with --by, or try again") from None
    except TimeoutError:
        raise ConfigError(f"{by}: no answer on {name} in time; raise its deadline_s") from None
    print(f"  {text}", flush=True)
    return text
