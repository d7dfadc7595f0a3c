"""HTML tables and their figures: one unit and one number of decimals for each column.

On a phone the style sheet shows a row as a list of labelled figures; the ARIA roles keep the table.
"""

import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestra_ray.evaluation.report.svg import element
from orchestra_ray.tracking.units import column_decimals, cost_unit

UNKNOWN = "–"
_UNBROKEN = 16  # characters of a name without a line break
_MINUTES_FROM_S = 120.0  # a column with a value from here on is in minutes


@dataclass(frozen=True, slots=True)
class Cell:
    """A figure, with notes in small print below it."""

    value: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    cells: Sequence[Cell]
    class_: str = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """The format of the amounts in one column; `factor` scales to the unit."""

    symbol: str
    factor: float
    places: int

    def text(self, amount: float | None) -> str:
        if amount is None or not math.isfinite(amount):
            return UNKNOWN
        return f"{amount * self.factor:,.{self.places}f}".replace("-", "−")

    def interval(self, ends: tuple[float, float] | None) -> tuple[str, ...]:
        """Returns the interval as the notes of a cell, () without one."""
        if ends is None or not all(map(math.isfinite, ends)):
            return ()
        low, high = map(self.text, ends)
        return (f"{low} to {high}" if ends[0] < 0.0 else f"{low}–{high}",)


PERCENT = Measure("%", 100.0, 1)
REWARD = Measure("", 1.0, 3)
TURNS = Measure("", 1.0, 2)


def money(costs_usd: Sequence[float]) -> Measure:
    unit = cost_unit(costs_usd)
    return Measure(unit.symbol, unit.per_usd, _places(costs_usd, unit.per_usd))


def seconds(latencies_s: Sequence[float]) -> Measure:
    """Returns the measure of seconds, or of minutes if the longest value is long."""
    longest = max(filter(math.isfinite, latencies_s), default=0.0)
    symbol, factor = ("min", 1 / 60) if longest >= _MINUTES_FROM_S else ("s", 1.0)
    return Measure(symbol, factor, _places(latencies_s, factor))


def _places(amounts: Sequence[float], factor: float) -> int:
    return column_decimals([amount * factor for amount in amounts if math.isfinite(amount)])


def signed(measure: Measure, amount: float) -> str:
    """Formats a difference, with its sign if positive too."""
    text = measure.text(amount)
    return text if text.startswith("−") or text == UNKNOWN else f"+{text}"


def table(headings: Sequence[str], rows: Iterable[Row | str]) -> str:
    """Returns a table. The first heading is of the rows' names; a text row is a heading."""
    head = [element("th", broken(text), scope="col", role="columnheader") for text in headings]
    body = [
        _over(row, len(headings)) if isinstance(row, str) else _row(row, headings[1:])
        for row in rows
    ]
    return element(
        "table",
        element("thead", element("tr", *head, role="row"), role="rowgroup"),
        element("tbody", *body, role="rowgroup"),
        role="table",
    )


def _over(text: str, columns: int) -> str:
    heading = element("th", html.escape(text), colspan=str(columns), scope="rowgroup")
    return element("tr", heading, role="row", class_="over")


def _row(row: Row, headings: Sequence[str]) -> str:
    cells = [
        element(
            "td",
            html.escape(cell.value),
            *(element("small", html.escape(note)) for note in cell.notes),
            role="cell",
            data_label=heading.replace("_", "_\u200b"),  # may break there
        )
        for cell, heading in zip(row.cells, headings, strict=True)
    ]
    name = element("th", broken(row.name), scope="row", role="rowheader")
    return element("tr", name, *cells, role="row", class_=row.class_)


def broken(text: str) -> str:
    """Escapes a name and allows line breaks in it, after underscores if possible."""
    parts = re.findall(rf"[^_]{{1,{_UNBROKEN}}}_?|_", text)
    return "<wbr>".join(html.escape(part) for part in parts)
