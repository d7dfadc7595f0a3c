"""`orchestra preferences make`: writes pairs of instruction and weights, with their split.

The pairs come from templates, which cost nothing, or from one model, checked by a second. Every
mistake in the arguments is refused before the first paid call. The spend is printed, also after an
error.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from orchestra_ray.cli.describe_models import CANNOT_WRITE
from orchestra_ray.cli.ledger_table import ledger_table
from orchestra_ray.cli.tables import add_row, plain_table, show
from orchestra_ray.config.schema import Config
from orchestra_ray.core.errors import ConfigError
from orchestra_ray.data.catalogue import Catalogue, read_catalogue
from orchestra_ray.data.preferences.generate import count_by_kind, generate
from orchestra_ray.data.preferences.llm_written import FilteredProposals, Writer
from orchestra_ray.data.preferences.load import Pair, Split, write_pairs
from orchestra_ray.data.preferences.split import assign_splits
from orchestra_ray.spend.budget import limits_of
from orchestra_ray.spend.ledger import table
from orchestra_ray.spend.local import LocalSpendClient
from orchestra_ray.spend.summary import By, spend_summary
from orchestra_ray.workers.tools.standalone import StandaloneCaller

ABOUT = "users' preferences"


@dataclass(frozen=True, slots=True)
class Models:
    """The model that proposes, and the one that checks."""

    by: str
    validator: str


def make_preferences(
    config: Config, out: str, count: int, by: str | None, validator: str | None
) -> None:
    """Writes `out`. Raises ConfigError if that is not possible."""
    catalogue = read_catalogue(config.catalogue)
    models, target = resolve(catalogue, out, by, validator)
    if models is None:
        pairs = generate(catalogue, config.catalogue.aliases, config.seed, count)
    else:
        pairs = assign_splits(_written(config, catalogue, models, count), config.seed)
    write_pairs(target, pairs)
    show(pairs_table(pairs))
    print(f"written: {target}; catalogue.preferences_path={target} uses it")


def resolve(
    catalogue: Catalogue, out: str, by: str | None, validator: str | None
) -> tuple[Models | None, Path]:
    """Raises ConfigError if the request cannot be served; nothing is spent yet."""
    target = Path(out)
    if target.exists():
        raise ConfigError(f"--out {target}: the file exists; give it another name")
    if not target.parent.is_dir():
        raise ConfigError(f"--out {target}: no folder {target.parent}; make it first")
    if by is None and validator is None:
        return None, target
    if by is None or validator is None:
        given, absent = ("--by", "--validator") if validator is None else ("--validator", "--by")
        raise ConfigError(f"{given}: one model writes and another checks; give {absent} too")
    for option, name in (("--by", by), ("--validator", validator)):
        if name not in catalogue.models:
            known = ", ".join(catalogue.models)
            raise ConfigError(f"{option} {name}: no such model; choose from: {known}")
        if catalogue.entries[name].backend == CANNOT_WRITE:
            raise ConfigError(f"{option} {name}: a simulated expert writes nothing; name another")
    if by == validator:
        raise ConfigError(
            f"--validator {validator}: proposals are checked by another model; name one"
        )
    return Models(by, validator), target


def pairs_table(pairs: Sequence[Pair]) -> Table:
    """Returns a row for each kind of user, and the total."""
    counts = count_by_kind(pairs)
    counted = plain_table(["user"], [split.value.replace("_", " ") for split in Split])
    for kind, row in counts.items():
        add_row(counted, [kind, *(str(row[split]) for split in Split)])
    sums = [str(sum(row[split] for row in counts.values())) for split in Split]
    add_row(counted, ["total", *sums], bold=True)
    return counted


def _written(config: Config, catalogue: Catalogue, models: Models, count: int) -> FilteredProposals:
    spend = LocalSpendClient(limits_of(config.spend), config.name)
    try:
        written = asyncio.run(_write(config, catalogue, models, count, spend))
    finally:
        if spend.entries:
            show(ledger_table(spend_summary(table(config.name, spend.entries), By.MODEL), By.MODEL))
    dropped = ", ".join(f"{n} {reason.value}" for reason, n in written.dropped.items())
    print(f"kept {len(written.kept)}; dropped: {dropped or 'none'}")
    if not written.kept:
        why = written.fault or f"all that {models.by} proposed was dropped"
        raise ConfigError(f"no preference was written: {why}; name other models, or try again")
    return written


async def _write(
    config: Config, catalogue: Catalogue, models: Models, count: int, spend: LocalSpendClient
) -> FilteredProposals:
    caller = StandaloneCaller(catalogue, [models.by, models.validator], spend, config.seed)
    patience_s = max(caller.patience_s(models.by), caller.patience_s(models.validator))
    ask, check = caller.asking(models.by, ABOUT), caller.asking(models.validator, ABOUT)
    try:
        writer = Writer(catalogue, config.catalogue.aliases, ask, check, patience_s)
        return await writer.write(count)
    finally:
        await caller.close()
