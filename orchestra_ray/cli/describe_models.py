"""`orchestra tools describe`: tries models on tasks, and lets another model describe the results.

Every mistake in the arguments is refused before the first paid call. The spend is printed, also
after an error.
"""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestra_ray.cli.ledger_table import ledger_table
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

CANNOT_WRITE = "simulated"  # backend of experts that only answer tasks


@dataclass(frozen=True, slots=True)
class DescribeRequest:
    """The models to describe, the model that writes, the tasks for each, and the new catalogue."""

    models: Sequence[str]
    by: str
    tasks: int
    target: Path


def describe_models(
    config: Config, models: Sequence[str], by: str | None, tasks: int, out: str | None
) -> int:
    """Returns how many of the models got no description. Without `models`: all on offer."""
    catalogue = read_catalogue(config.catalogue)
    request = resolve(config, catalogue, models, by, tasks, out)
    trial_tasks = pick_tasks(TaskSource.train(config.tasks), tasks, config.seed)
    spend = LocalSpendClient(limits_of(config.spend), config.name)
    try:
        found = asyncio.run(_describe_all(catalogue, request, trial_tasks, spend, config.seed))
    finally:
        if spend.entries:
            show(ledger_table(spend_summary(table(config.name, spend.entries), By.MODEL), By.MODEL))
    if found:
        write_described(Path(config.catalogue.path), request.target, found)
        print(f"written: {request.target}; catalogue.path={request.target} uses it")
    return len(request.models) - len(found)


def resolve(
    config: Config,
    catalogue: Catalogue,
    models: Sequence[str],
    by: str | None,
    tasks: int,
    out: str | None,
) -> DescribeRequest:
    """Raises ConfigError if the request cannot be served; nothing is spent yet."""
    source = Path(config.catalogue.path)
    writer = by or _dearest_writer(catalogue)
    described = list(dict.fromkeys(models)) or [
        entry.name for entry in catalogue.offered_models if entry.name != writer
    ]
    for option, name in (("--by", writer), *(("--model", name) for name in described)):
        if name not in catalogue.models:
            known = ", ".join(catalogue.models)
            raise ConfigError(f"{option} {name}: no such model; choose from: {known}")
    if writer in described:
        raise ConfigError(f"--by {writer}: a model is described by another; choose one")
    if catalogue.entries[writer].backend == CANNOT_WRITE:
        raise ConfigError(f"--by {writer}: a simulated expert writes nothing; name another")
    text = source.read_text(encoding="utf-8")
    for name in described:
        replaced(text, name, "words")
    target = Path(out) if out is not None else source.with_name(f"{source.stem}_described.yaml")
    if target.exists():
        raise ConfigError(f"--out {target}: the file exists; give the copy another name")
    if not target.parent.is_dir():
        raise ConfigError(f"--out {target}: no folder {target.parent}; make it first")
    require(family.name for family in config.tasks.families)
    return DescribeRequest(described, writer, tasks, target)


def _dearest_writer(catalogue: Catalogue) -> str:
    able = [entry for entry in catalogue.models.values() if entry.backend != CANNOT_WRITE]
    if not able:
        raise ConfigError(
            "catalogue: no model of it can write a description; add one with an endpoint,"
            " offered: false, and name it with --by"
        )
    return max(able, key=lambda entry: entry.prices.output_nanousd_per_mtok).name


async def _describe_all(
    catalogue: Catalogue,
    request: DescribeRequest,
    tasks: Sequence[Task],
    spend: LocalSpendClient,
    seed: int,
) -> dict[str, str]:
    caller = StandaloneCaller(catalogue, [*request.models, request.by], spend, seed)
    found: dict[str, str] = {}
    try:
        for name in request.models:
            try:
                found[name] = await _described(caller, catalogue, name, request.by, tasks)
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
        problem = f"its description of {name} cannot be used: {error}"
        raise ConfigError(f"{by}: {problem} Name another with --by, or try again") from None
    except TimeoutError:
        raise ConfigError(f"{by}: no description of {name} in time; raise its deadline_s") from None
    print(f"  {text}", flush=True)
    return text
