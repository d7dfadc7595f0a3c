"""Tables on the terminal; in a pipe they are not cut to a width."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 400  # columns of an output that is no terminal


def plain_table(names: Sequence[str], figures: Sequence[str]) -> Table:
    """Returns a table with columns of text, then right-aligned columns of figures."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in names:
        table.add_column(heading, overflow="fold")
    for heading in figures:
        table.add_column(heading, justify="right", overflow="fold")
    return table


def add_row(table: Table, cells: Iterable[str], bold: bool = False) -> None:
    """Adds the cells verbatim: brackets in a name are no markup."""
    table.add_row(*(Text(cell) for cell in cells), style="bold" if bold else None)


def show(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    console.print(table)


def exact_usd(amounts_nanousd: Sequence[int]) -> list[str]:
    """Returns the amounts as text in exact dollars, all with as many decimals, at least two."""
    texts = [f"{abs(amount):010d}" for amount in amounts_nanousd]
    decimals = max([2, *(len(text[-9:].rstrip("0")) for text in texts)])
    return [
        f"{'-' if amount < 0 else ''}{int(text[:-9]):,}.{text[-9:][:decimals]}"
        for amount, text in zip(amounts_nanousd, texts, strict=True)
    ]
