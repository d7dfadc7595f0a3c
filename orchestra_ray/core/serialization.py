"""Batches of records as bytes, for their way between the processes of the pool.

Ray pickles each record through Python code, which costs more than the rest of a call. Here a record
is its class and its fields, read and made by C code, and what several of a batch share (a task, an
offer) travels once. The bytes are pickle's: only processes of the same version read them.

An item that cannot be packed, or not be read back, never takes its batch along: `pack_items` leaves
it out and says why. Plain data and records are always read back; a batch that holds anything else
is read once by its sender.
"""

import io
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from enum import Enum
from operator import attrgetter
from typing import Any

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
    if len(names) == 1:  # of one name alone attrgetter makes no tuple
        return lambda one: (record, (values(one),))
    return lambda one: (record, values(one))


_REDUCERS = {record: _reducer(record) for record in RECORDS}


class _Pickler(pickle.Pickler):
    odd = False  # whether anything but plain data, records and enums went in

    def reducer_override(self, obj: Any) -> Any:
        """Asked for all that is not plain data, the classes of records among it."""
        reducer = _REDUCERS.get(type(obj))
        if reducer is not None:
            return reducer(obj)
        kind = obj if isinstance(obj, type) else type(obj)
        self.odd = self.odd or not (kind in _REDUCERS or issubclass(kind, Enum))
        return NotImplemented


def pack(batch: Any) -> bytes:
    """Raises whatever an object in it raises when it is packed or read back."""
    stream = io.BytesIO()
    pickler = _Pickler(stream, protocol=pickle.HIGHEST_PROTOCOL)
    pickler.dump(batch)
    packed = stream.getvalue()
    if pickler.odd:
        unpack(packed)
    return packed


def pack_items(items: Sequence[Any], *head: Any) -> tuple[bytes, Mapping[int, str]]:
    """`(*head, items)` packed, and why for each index of an item that had to be left out."""
    try:
        return pack((*head, items)), {}
    except Exception:
        bad = {index: why for index, item in enumerate(items) if (why := _why_not(item))}
    try:
        good = [item for index, item in enumerate(items) if index not in bad]
        return pack((*head, good)), bad
    except Exception as error:  # each of them can be packed, and all together cannot
        everything = dict.fromkeys(range(len(items)), _line(error))
        return pack((*head, [])), everything


def unpack(packed: bytes) -> Any:
    return pickle.loads(packed)


def _why_not(item: Any) -> str | None:
    try:
        pack([[[item]]])  # deeper than in its batch: what passes here passes there
    except Exception as error:
        return _line(error)
    return None


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
