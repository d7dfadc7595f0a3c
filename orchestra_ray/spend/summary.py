"""The spend summary: sums over a ledger by model, tool, step, episode or error.

Every grouping has the same total, to the nano-dollar, since sums are computed in integers. Pure
functions of the ledger's table.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc

from orchestra_ray.data.catalogue.signatures import ASK
from orchestra_ray.spend.budget import MEASUREMENT

TOTAL = "total"
_KEY = "key"


class By(StrEnum):
    """The key by which entries are grouped into lines."""

    MODEL = "model"  # the model, also of a recipe, or the tool if it has none
    TOOL = "tool"  # the called function; all directly called models are one
    STEP = "step"  # of training; evaluation is a line of its own
    EPISODE = "episode"
    ERROR = "error"  # the class of the fault; calls without a fault are a line of their own


@dataclass(frozen=True, slots=True)
class Line:
    """The sums of one group of entries."""

    name: str
    calls: int = 0
    input_tokens: int = 0  # including cached ones
    cached_tokens: int = 0
    output_tokens: int = 0  # including reasoning
    reasoning_tokens: int = 0
    charged_nanousd: int = 0
    saved_nanousd: int = 0  # what the replayed calls would have cost
    queue_s: float = 0.0
    service_s: float = 0.0
    retries: int = 0
    hedges: int = 0
    cache_hits: int = 0
    replayed: int = 0
    faults: int = 0


AMOUNTS = tuple(field.name for field in fields(Line))[1:]


def spend_summary(entries: pa.Table, by: By) -> list[Line]:
    """Returns a line per group: steps in order, all else by falling cost."""
    counted = {
        "calls": pa.array([1] * len(entries), pa.int64()),
        "cache_hits": entries["cache_hit"].cast(pa.int64()),
        "replayed": entries["replayed"].cast(pa.int64()),
        "faults": entries["error"].is_valid().cast(pa.int64()),
    }
    columns = {name: entries[name] for name in AMOUNTS if name not in counted}
    table = pa.table({**columns, **counted, _KEY: _keys(entries, by)})
    sums = table.group_by(_KEY).aggregate([(name, "sum") for name in AMOUNTS]).to_pylist()
    if by is By.STEP:
        sums.sort(key=lambda row: row[_KEY])
    else:
        sums.sort(key=lambda row: (-row["charged_nanousd_sum"], -row["calls_sum"], row[_KEY]))
    return [
        Line(_name(row[_KEY], by), **{name: row[f"{name}_sum"] for name in AMOUNTS}) for row in sums
    ]


def total(lines: Iterable[Line], name: str = TOTAL) -> Line:
    """Returns the sum of all lines as a line."""
    columns = {amount: [getattr(line, amount) for line in lines] for amount in AMOUNTS}
    return Line(name, **{amount: sum(values) for amount, values in columns.items()})


def shortened(lines: Sequence[Line], most: int) -> list[Line]:
    """Returns at most `most` lines: the costliest in their order, then one for all others."""
    if len(lines) <= most:
        return list(lines)
    ranked = sorted(range(len(lines)), key=lambda i: -lines[i].charged_nanousd)
    kept = set(ranked[: most - 1])
    others = [line for i, line in enumerate(lines) if i not in kept]
    shown = [line for i, line in enumerate(lines) if i in kept]
    return [*shown, replace(total(others), name=f"{len(others)} others")]


def _keys(entries: pa.Table, by: By) -> pa.ChunkedArray:
    match by:
        case By.MODEL:
            plain = pc.call_function("equal", [entries["model"], ""])
            return pc.call_function("if_else", [plain, entries["identity"], entries["model"]])
        case By.TOOL:
            asked = pc.call_function("equal", [entries["kind"], "model"])
            return pc.call_function("if_else", [asked, ASK, entries["identity"]])
        case By.ERROR:
            return entries["error"].fill_null("none")
        case _:
            return entries[by.value]


def _name(key: str | int, by: By) -> str:
    return "measured" if by is By.STEP and key == MEASUREMENT else str(key)
