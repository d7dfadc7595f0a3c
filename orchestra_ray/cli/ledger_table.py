"""The sums of a run's ledger as a table."""

from pathlib import Path

import pyarrow as pa
from rich.table import Table

from orchestra_ray.cli.tables import add_row, exact_usd, plain_table, show
from orchestra_ray.core.errors import ConfigError, first_line
from orchestra_ray.spend.ledger import FOLDER, read
from orchestra_ray.spend.summary import By, Line, shortened, spend_summary, total

FIGURES = (
    "calls",
    "tokens in",
    "cached",
    "tokens out",
    "reasoning",
    "charged $",
    "saved $",
    "queue s",
    "service s",
    "retries",
    "hedges",
    "cache hits",
    "replayed",
    "faults",
)


def show_ledger(run: Path, by: By, most: int) -> None:
    """Prints at most `most` lines and their total. Raises ConfigError without a ledger."""
    show(ledger_table(shortened(spend_summary(entries_of(run), by), most), by))


def entries_of(run: Path) -> pa.Table:
    if not run.is_dir():
        raise ConfigError(f"{run}: no such run; give the folder of one, such as runs/NAME")
    try:
        return read(run / FOLDER)
    except FileNotFoundError:
        raise ConfigError(
            f"{run / FOLDER}: no ledger; the run's first step writes it, or choose another run"
        ) from None
    except (pa.ArrowException, OSError) as error:
        line = first_line(error)
        raise ConfigError(
            f"{run / FOLDER}: cannot be read ({line}); restore the file or move it away"
        ) from None


def ledger_table(lines: list[Line], by: By) -> Table:
    """Returns the lines and their total, with dollars in full precision."""
    table = plain_table([by.value], FIGURES)
    rows = [*lines, total(lines)]
    charged = exact_usd([line.charged_nanousd for line in rows])
    saved = exact_usd([line.saved_nanousd for line in rows])
    for line, charged_usd, saved_usd in zip(rows, charged, saved, strict=True):
        if line is rows[-1]:
            table.add_section()
        tokens = (
            line.input_tokens,
            line.cached_tokens,
            line.output_tokens,
            line.reasoning_tokens,
        )
        counts = (line.retries, line.hedges, line.cache_hits, line.replayed, line.faults)
        add_row(
            table,
            [
                line.name,
                *(f"{count:,}" for count in (line.calls, *tokens)),
                charged_usd,
                saved_usd,
                *(f"{seconds:,.1f}" for seconds in (line.queue_s, line.service_s)),
                *(f"{count:,}" for count in counts),
            ],
            bold=line is rows[-1],
        )
    return table
