"""The ledger: one entry per call, in Parquet files of the run's folder, and the sums over them.

Money is summed as integers, so call, turn, episode, step and run agree to the nano-dollar in any
order. Files are written atomically; a resumed run adds files. Entries that cannot be written, for a
full disk say, are kept for the next flush. An entry that cannot be converted to a row is skipped
and reported; the others are written.
"""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.records import LedgerEntry

FOLDER = "ledger"
FLUSH_S = 10.0  # maximum wait of an entry, however long a step is
SCHEMA = pa.schema(
    [
        ("run", pa.string()),
        ("step", pa.int64()),
        ("group", pa.string()),
        ("episode", pa.string()),
        ("turn", pa.int32()),
        ("call", pa.string()),
        ("identity", pa.string()),
        ("model", pa.string()),
        ("alias", pa.string()),
        ("kind", pa.string()),
        ("price_sheet", pa.string()),
        ("input_tokens", pa.int64()),
        ("cached_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("reasoning_tokens", pa.int64()),
        ("searches", pa.int64()),
        ("charged_nanousd", pa.int64()),
        ("saved_nanousd", pa.int64()),
        ("queue_s", pa.float64()),
        ("service_s", pa.float64()),
        ("retries", pa.int32()),
        ("hedges", pa.int32()),
        ("cache_hit", pa.bool_()),
        ("replayed", pa.bool_()),
        ("error", pa.string()),
    ]
)


@dataclass(slots=True)
class Totals:
    """Sums over entries."""

    calls: int = 0
    charged_nanousd: int = 0
    saved_nanousd: int = 0
    tokens: int = 0
    service_s: float = 0.0
    queue_s: float = 0.0
    retries: int = 0
    hedges: int = 0
    cache_hits: int = 0
    replayed: int = 0
    errors: int = 0

    def add(self, entry: LedgerEntry) -> None:
        self.calls += 1
        self.charged_nanousd += entry.charged_nanousd
        self.saved_nanousd += entry.saved_nanousd
        self.tokens += entry.usage.input_tokens + entry.usage.output_tokens
        self.service_s += entry.service_s
        self.queue_s += entry.queue_s
        self.retries += entry.retries
        self.hedges += entry.hedges
        self.cache_hits += entry.cache_hit
        self.replayed += entry.replayed
        self.errors += entry.error is not None


@dataclass(slots=True)
class Ledger:
    """Entries that are not written yet, and totals of all entries by identity and by fault."""

    run: str
    folder: Path | None = None  # None: kept in memory only
    by_identity: dict[str, Totals] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)
    unwritable: int = 0  # entries that cannot be rows
    _waiting: list[LedgerEntry] = field(default_factory=list)
    _files: int = 0
    _flushed_s: float = field(default_factory=time.monotonic)

    def add(self, entries: Iterable[LedgerEntry]) -> None:
        for entry in entries:
            self.by_identity.setdefault(entry.identity, Totals()).add(entry)
            self._waiting.append(entry)
            if entry.error is not None:
                self.faults[entry.error] = self.faults.get(entry.error, 0) + 1

    def spent_before(self) -> tuple[int, int]:
        """Returns (nano-dollars, attempts) of tools and models in the run's folder.

        The policy's own tokens are left out, since no limit applies to them.
        """
        if self.folder is None or not any(self.folder.glob("part-*.parquet")):
            return 0, 0
        names = ("kind", "replayed", "charged_nanousd", "retries", "hedges")
        rows = read(self.folder).select(names).to_pylist()
        paid = [row for row in rows if row["kind"] != "policy" and not row["replayed"]]
        attempts = sum(1 + row["retries"] + row["hedges"] for row in paid)
        return sum(row["charged_nanousd"] for row in paid), attempts

    def is_due(self, now_s: float) -> bool:
        """Returns whether entries have waited too long; a crash would lose them."""
        return bool(self._waiting) and now_s - self._flushed_s > FLUSH_S

    def flush(self) -> Failure | None:
        """Writes the waiting entries to a new file; returns a failure if some are not written."""
        self._flushed_s = time.monotonic()
        if not self._waiting or self.folder is None:
            return None
        rows, bad = self._rows()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if rows.num_rows:
                _write(rows, self._next_file())
        except OSError as error:
            message = f"{len(self._waiting)} entries are not written yet: {error}"
            return Failure(FailureKind.INFRASTRUCTURE, str(self.folder), message)
        self._waiting = []
        self.unwritable += len(bad)
        if not bad:
            return None
        message = f"{len(bad)} entries cannot be written, the first is {bad[0]}"
        return Failure(FailureKind.TOOL, str(self.folder), message)

    def _rows(self) -> tuple[pa.Table, list[str]]:
        """Returns the waiting entries as rows, and the errors of those that cannot be rows."""
        try:
            return table(self.run, self._waiting), []
        except Exception:  # of pyarrow: text that is not UTF-8, numbers beyond 64 bits
            why = [_error_of(self.run, entry) for entry in self._waiting]
        good = [entry for entry, bad in zip(self._waiting, why, strict=True) if bad is None]
        return table(self.run, good), [bad for bad in why if bad is not None]

    def metrics(self) -> Mapping[str, float]:
        """Returns the metrics of the run so far, for `metrics.jsonl`."""
        names = [f.name for f in fields(Totals) if f.name not in ("charged_nanousd", "tokens")]
        total: dict[str, float] = {
            n: sum(getattr(t, n) for t in self.by_identity.values()) for n in names
        }
        total["saved_usd"] = total.pop("saved_nanousd") / 1e9
        charged = {n: t.charged_nanousd / 1e9 for n, t in self.by_identity.items()}
        return {
            **{f"ledger/{name}": float(value) for name, value in total.items()},
            "ledger/unwritable": float(self.unwritable),
            "ledger/unwritten": float(len(self._waiting)) if self.folder is not None else 0.0,
            "ledger/charged_usd": sum(t.charged_nanousd for t in self.by_identity.values()) / 1e9,
            **{f"ledger/charged_usd/{name}": value for name, value in charged.items()},
            **{f"ledger/fault/{name}": float(count) for name, count in self.faults.items()},
        }

    def _next_file(self) -> Path:
        assert self.folder is not None
        while True:
            self._files += 1
            path = self.folder / f"part-{self._files:06d}.parquet"
            if not path.exists():
                return path


def _error_of(run: str, entry: LedgerEntry) -> str | None:
    try:
        table(run, [entry])
    except Exception as error:
        return f"{entry.call_id!a}: {type(error).__name__}: {error}"
    return None


def _write(rows: pa.Table, path: Path) -> None:
    partial = path.with_suffix(".partial")
    try:
        pq.write_table(rows, partial, compression="zstd")
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)  # it may be filling the disk
        raise


def table(run: str, entries: Sequence[LedgerEntry]) -> pa.Table:
    """Returns entries as rows of `SCHEMA`."""
    columns: dict[str, list[Any]] = {
        "run": [run] * len(entries),
        "step": [e.caller.step for e in entries],
        "group": [e.caller.group_id for e in entries],
        "episode": [e.caller.episode_id for e in entries],
        "turn": [e.caller.turn for e in entries],
        "call": [e.call_id for e in entries],
    }
    for name in SCHEMA.names:
        if name in LedgerEntry.__dataclass_fields__:
            columns[name] = [getattr(e, name) for e in entries]
        elif name not in columns:
            columns[name] = [getattr(e.usage, name) for e in entries]
    return pa.table(columns, schema=SCHEMA)


def read(folder: Path) -> pa.Table:
    """Returns all entries of a run's ledger; raises FileNotFoundError if there are none."""
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise FileNotFoundError(folder)
    return pa.concat_tables([pq.read_table(part) for part in parts])
