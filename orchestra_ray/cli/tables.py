"""Tables on the terminal, and whole where there is none: a pipe has no width to keep to."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 400  # columns; of what is no terminal


def plain_table(names: Sequence[str], figures: Sequence[str]) -> Table:
    """Columns of words, then columns of figures, which are aligned to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in names:
        table.add_column(heading, overflow="fold")
    for heading in figures:
        table.add_column(heading, justify="right", overflow="fold")
    return table


def add_row(table: Table, cells: Iterable[str], bold: bool = False) -> None:
    """Cells as they are: a name with brackets in it is no markup."""
    table.add_row(*(Text(cell) for cell in cells), style="bold" if bold else None)


def show(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    console.print(table)


def exact_usd(amounts_nanousd: Sequence[int]) -> list[str]:
    """Dollars, exact, with as many decimals as the one that needs most; two at least."""
    texts = [f"{abs(amount):010d}" for amount in amounts_nanousd]
    decimals = max([2, *(len(text[-9:].rstrip("0")) for text in texts)])
    return [
        f"{'-' if amount < 0 else ''}{int(text[:-9]):,}.{text[-9:][:decimals]}"
        for amount, text in zip(amounts_nanousd, texts, strict=True)
    ]
