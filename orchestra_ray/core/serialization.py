"""Serialization of batches of records between rollout workers, tool executors and the spend actor.

Ray's pickling runs Python code for each record, which costs more than the rest of a call. Here a
record is reduced to its class and fields by C code, and values that items share (a task, a tool
option) are written once. The format is pickle: only processes of the same version can read it.

An item that cannot be packed or unpacked does not fail its batch: `pack_items` leaves it out and
returns the reason. A batch of plain data and records can always be unpacked; any other is unpacked
once by its sender as a check.
"""

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from operator import attrgetter
from typing import Any

from orchestra_ray.core.errors import first_line
from orchestra_ray.core.faults import Failure
from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.process_log import LogTail
from orchestra_ray.core.records import (
    Caller,
    LedgerEntry,
    Lost,
    Reservation,
    Settlement,
    Task,
    ToolOption,
    ToolRequest,
    ToolResult,
)

RECORDS = (
    *(Caller, Failure, LedgerEntry, LogTail, Lost, ToolOption, Settlement, Prices, Reservation),
    *(Task, ToolRequest, ToolResult, Usage),
)


def _reducer(record: type) -> Callable[[Any], tuple[type, tuple[Any, ...]]]:
    names = [field.name for field in fields(record)]
    values = attrgetter(*names)
    if len(names) == 1:  # attrgetter returns no tuple for a single name
        return lambda one: (record, (values(one),))
    return lambda one: (record, values(one))


_REDUCERS = {record: _reducer(record) for record in RECORDS}


class _Pickler(pickle.Pickler):
    foreign = False  # whether anything but plain data, records and enums was packed

    def reducer_override(self, obj: Any) -> Any:
        """Called by pickle for everything but plain data, including the classes of records."""
        reducer = _REDUCERS.get(type(obj))
        if reducer is not None:
            return reducer(obj)
        kind = obj if isinstance(obj, type) else type(obj)
        self.foreign = self.foreign or not (kind in _REDUCERS or issubclass(kind, Enum))
        return NotImplemented


def pack(batch: Any) -> bytes:
    """Returns `batch` as bytes; raises any exception of an object that is packed or unpacked."""
    stream = io.BytesIO()
    pickler = _Pickler(stream, protocol=pickle.HIGHEST_PROTOCOL)
    pickler.dump(batch)
    packed = stream.getvalue()
    if pickler.foreign:
        unpack(packed)
    return packed


def pack_items(items: Sequence[Any], *head: Any) -> tuple[bytes, Mapping[int, str]]:
    """Packs `(*head, items)`; returns the bytes and the reason for each item left out, by index."""
    try:
        return pack((*head, items)), {}
    except Exception:
        bad = {index: reason for index, item in enumerate(items) if (reason := _problem(item))}
    try:
        good = [item for index, item in enumerate(items) if index not in bad]
        return pack((*head, good)), bad
    except Exception as error:  # each can be packed alone, but not all together
        everything = dict.fromkeys(range(len(items)), _line(error))
        return pack((*head, [])), everything


def unpack(packed: bytes) -> Any:
    return pickle.loads(packed)


def _problem(item: Any) -> str | None:
    try:
        pack([[[item]]])  # nested deeper than in its batch, where it then passes too
    except Exception as error:
        return _line(error)
    return None


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
