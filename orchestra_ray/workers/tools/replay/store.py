"""The SQLite file under a cassette: synchronous, for one thread; what is played is `cassette`'s.

Many processes may write one file at once: WAL, a busy timeout, and a write that is one statement.
A new file appears whole, made beside its place and linked there, so that no process ever sees half
a schema. Under one key stands one outcome. It is replaced once at most, when it was a failure of
the moment and the same call was answered after all.

Texts are stored as bytes: a tool's NULs and lone surrogates come back as they were.
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
    """What a call is found by: `content` is what was asked, `sample` which asking of it."""

    identity: str
    version: str
    content: bytes
    sample: int  # 63 bits, of the episode's seed and the call's place in it


@dataclass(frozen=True, slots=True)
class Recorded:
    """What came of a call; `text` is the fault's line where there is a fault."""

    text: str
    usage: Usage
    service_s: float
    fault: FaultKind | None
    recorded_at_s: float

    @property
    def lasting(self) -> bool:
        """Not a failure of the moment: the same call would have the same kind of outcome again."""
        return self.fault is None or self.fault.is_the_calls_own


class CassetteStore:
    """One connection. Opening raises `ConfigError`, everything else `sqlite3.Error`."""

    def __init__(self, path: Path, writable: bool):
        """Its horizon is what stands in the file now."""
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
        """Whether no call stood in the file at opening."""
        return self._horizon == 0

    def exact(self, key: Key, lasting: bool) -> Recorded | None:
        """The outcome of this very call; with `lasting`, unless it was a failure of the moment."""
        return self._one(_EXACT, self._where(key, lasting))

    def earlier(self, key: Key, lasting: bool) -> Recorded | None:
        """An outcome of the same request that stood at opening: the next by `sample`, in a circle.

        Which one it is depends on nothing but the key and what was recorded.
        """
        where = self._where(key, lasting)
        return self._one(_NEXT, where) or self._one(_FIRST, where)

    def put(self, key: Key, recorded: Recorded) -> Recorded:
        """Writes it where nothing better stands, and returns what stands then."""
        row = asdict(key) | asdict(recorded)
        row["text"] = recorded.text.encode("utf-8", "surrogatepass")
        row["usage"] = json.dumps(row["usage"])
        self._connection.execute(_PUT, row | {"lasting": recorded.lasting})
        return self.exact(key, lasting=False) or recorded

    def service_times(self, identity: str) -> list[float]:
        """Of every answered call of a tool that stood at opening, in ascending order."""
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
    """The empty file at `path`, unless there is one; of many makers one wins, and all go on."""
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
    # Even a reader needs a -shm file beside a WAL database, which a read-only folder cannot hold.
    sealed = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
    if not writable and sealed:
        mode += "&immutable=1"
    uri = f"file:{quote(str(path.absolute()))}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    # In WAL mode a power cut may lose the last records with this, and never damages the file.
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection
