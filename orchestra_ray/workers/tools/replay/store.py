"""The SQLite file of a cassette: synchronous, for one thread. `cassette` decides what to replay.

Many processes may write one file concurrently: WAL mode, a busy timeout, and one statement for each
write. A new file is created under a temporary name and hard-linked to its path, so no process sees
a partial schema. A key has one outcome, which is replaced at most once: a transient failure by a
later success.

Texts are stored as bytes, so NULs and lone surrogates are preserved.
"""

import contextlib
import json
import os
import sqlite3
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.faults import FaultKind
from orchestra_ray.core.money import Usage

BUSY_TIMEOUT_S = 30.0
_APPLICATION_ID = 0x4F52_4353  # "ORCS", in the file's header
_FORMAT = 1
_SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_FORMAT};
CREATE TABLE calls (
    id INTEGER PRIMARY KEY,
    content BLOB NOT NULL,
    sample INTEGER NOT NULL,
    identity TEXT NOT NULL,
    version TEXT NOT NULL,
    text BLOB NOT NULL,
    usage TEXT NOT NULL,
    service_s REAL NOT NULL,
    fault TEXT,
    lasting INTEGER NOT NULL,
    recorded_at_s REAL NOT NULL,
    UNIQUE (content, sample)
);
CREATE INDEX answered ON calls (identity, service_s) WHERE fault IS NULL;
"""
_SELECT = "SELECT text, usage, service_s, fault, recorded_at_s FROM calls WHERE content = :content"
_EXACT = f"{_SELECT} AND lasting >= :lasting AND sample = :sample"
_EARLIER = (
    f"{_SELECT} AND lasting >= :lasting AND id <= :horizon"
    f" AND fault IS NOT '{FaultKind.BUDGET.value}'"
)
_NEXT = f"{_EARLIER} AND sample > :sample ORDER BY sample LIMIT 1"
_FIRST = f"{_EARLIER} ORDER BY sample LIMIT 1"
_PUT = """
INSERT INTO calls (content, sample, identity, version, text, usage, service_s, fault, lasting,
                   recorded_at_s)
VALUES (:content, :sample, :identity, :version, :text, :usage, :service_s, :fault, :lasting,
        :recorded_at_s)
ON CONFLICT (content, sample) DO UPDATE
SET text = excluded.text, usage = excluded.usage, service_s = excluded.service_s,
    fault = excluded.fault, lasting = excluded.lasting, recorded_at_s = excluded.recorded_at_s
WHERE calls.lasting < excluded.lasting
"""
_SERVICE_S = """
SELECT service_s FROM calls
WHERE identity = ? AND fault IS NULL AND id <= ? ORDER BY service_s
"""


@dataclass(frozen=True, slots=True)
class Key:
    """Identifies a call: `content` by its request, `sample` by its position in a run."""

    identity: str
    version: str
    content: bytes
    sample: int  # 63 bits, from the episode's seed and the call's position in it


@dataclass(frozen=True, slots=True)
class Recorded:
    """The outcome of a call. If it failed, `text` is the fault's message."""

    text: str
    usage: Usage
    service_s: float
    fault: FaultKind | None
    recorded_at_s: float

    @property
    def lasting(self) -> bool:
        """Whether a repeated call would have the same kind of outcome: no transient failure."""
        return self.fault is None or self.fault.is_invalid_call


class CassetteStore:
    """One connection. Opening raises `ConfigError`, all other methods `sqlite3.Error`."""

    def __init__(self, path: Path, writable: bool):
        """Opens the file. The calls that it already holds are the earlier ones."""
        if not writable and not path.is_file():
            raise ConfigError(f"cassette {path}: no such file; record it first, or name another")
        try:
            if writable:
                _make(path)
            self._connection = _connect(path, writable)
            application_id = self._value("PRAGMA application_id")
            found = self._value("PRAGMA user_version")
            damage = self._value("PRAGMA quick_check(1)")
            if damage != "ok":
                raise sqlite3.DatabaseError(" ".join(damage.split()))
        except (OSError, sqlite3.OperationalError) as error:
            raise ConfigError(
                f"cassette {path}: cannot be opened ({error}); check its path, rights and disk"
            ) from None
        except sqlite3.DatabaseError as error:
            raise ConfigError(
                f"cassette {path}: damaged ({error}); restore a copy, or record into a new file"
            ) from None
        if application_id != _APPLICATION_ID:
            raise ConfigError(f"cassette {path}: not a cassette; name another file")
        if found != _FORMAT:
            raise ConfigError(
                f"cassette {path}: has format {found}, this release reads {_FORMAT}; "
                "record into a new file"
            )
        self._horizon = self._value("SELECT coalesce(max(id), 0) FROM calls")

    @property
    def was_empty(self) -> bool:
        """Whether the file held no call when it was opened."""
        return self._horizon == 0

    def exact(self, key: Key, lasting: bool) -> Recorded | None:
        """Returns the outcome of exactly this call; `lasting` excludes transient failures."""
        return self._one(_EXACT, self._where(key, lasting))

    def earlier(self, key: Key, lasting: bool) -> Recorded | None:
        """Returns an earlier outcome of the same content: the next by `sample`, cyclically.

        The choice depends only on the key and the recorded calls.
        """
        where = self._where(key, lasting)
        return self._one(_NEXT, where) or self._one(_FIRST, where)

    def put(self, key: Key, recorded: Recorded) -> Recorded:
        """Stores the outcome unless a better one is stored; returns the one under `key`."""
        row = asdict(key) | asdict(recorded)
        row["text"] = recorded.text.encode("utf-8", "surrogatepass")
        row["usage"] = json.dumps(row["usage"])
        self._connection.execute(_PUT, row | {"lasting": recorded.lasting})
        return self.exact(key, lasting=False) or recorded

    def service_times(self, identity: str) -> list[float]:
        """Returns the seconds of a tool's earlier successful calls, ascending."""
        return [s for (s,) in self._connection.execute(_SERVICE_S, (identity, self._horizon))]

    def close(self) -> None:
        self._connection.close()

    def _where(self, key: Key, lasting: bool) -> dict[str, Any]:
        return {
            "content": key.content,
            "sample": key.sample,
            "lasting": lasting,
            "horizon": self._horizon,
        }

    def _one(self, query: str, where: dict[str, Any]) -> Recorded | None:
        row = self._connection.execute(query, where).fetchone()
        if row is None:
            return None
        text, usage, service_s, fault, recorded_at_s = row
        return Recorded(
            text=text.decode("utf-8", "surrogatepass"),
            usage=Usage(**json.loads(usage)),
            service_s=service_s,
            fault=None if fault is None else FaultKind(fault),
            recorded_at_s=recorded_at_s,
        )

    def _value(self, query: str) -> Any:
        return self._connection.execute(query).fetchone()[0]


def _make(path: Path) -> None:
    """Creates an empty file at `path` unless it exists; safe if many processes do so."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        with contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as connection:
            connection.executescript(_SCHEMA)
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _connect(path: Path, writable: bool) -> sqlite3.Connection:
    mode = "rw" if writable else "ro"
    # Even a reader of a WAL database creates a -shm file, which a read-only folder rules out.
    sealed = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
    if not writable and sealed:
        mode += "&immutable=1"
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    # In WAL mode, a power failure may then lose the last records, but never damages the file.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection
