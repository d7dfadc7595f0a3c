"""Batches of records as bytes, for their way between the processes of the pool.

Ray pickles each record through Python code, which costs more than the rest of a call. Here a record
is its class and its fields, read and made by C code, and what several of a batch share (a task, an
offer) travels once. The bytes are pickle's: only processes of the same version read them.
"""

import copyreg
import io
import pickle
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any

from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.process_log import LogTail
from orchestra_ray.core.records import Asker, LedgerEntry, Offer, Task, ToolRequest, ToolResult
from orchestra_ray.core.states import Failure
from orchestra_ray.tools.books import Lost, Posting
from orchestra_ray.tools.guard import Reservation

RECORDS = (
    *(Asker, Failure, LedgerEntry, LogTail, Lost, Offer, Posting, Prices, Reservation),
    *(Task, ToolRequest, ToolResult, Usage),
)


def _reducer(record: type) -> Callable[[Any], tuple[type, tuple[Any, ...]]]:
    names = [field.name for field in fields(record)]
    values = attrgetter(*names)
    if len(names) == 1:  # of one name alone attrgetter makes no tuple
        return lambda one: (record, (values(one),))
    return lambda one: (record, values(one))


class _Pickler(pickle.Pickler):
    dispatch_table = copyreg.dispatch_table | {record: _reducer(record) for record in RECORDS}


def pack(batch: Any) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol=pickle.HIGHEST_PROTOCOL).dump(batch)
    return stream.getvalue()


def unpack(packed: bytes) -> Any:
    return pickle.loads(packed)
