"""Unpacking returns the packed records."""

import pickle
from dataclasses import replace

import pytest

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.money import Prices, Usage
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
from orchestra_ray.core.serialization import RECORDS, pack, unpack

CALLER = Caller(1, "g", "g/0", 2)
OPTION = ToolOption("nova", "m", "model", "Half a pair: \ud800", Prices(call_nanousd=7), 0.5)
REQUEST = ToolRequest("c", CALLER, OPTION, {"x": [1, 2**70, None]}, Task("t", "f", "?", {}), 3, 4)
ENTRY = LedgerEntry("c", CALLER, "m", "nova", "model", "p", Usage(1, 0, 2), 7, 0.25, error="lost")
ALL = [
    REQUEST,
    replace(REQUEST, reissues=1, waited_s=0.5),
    ToolResult("text", ENTRY, "lost"),
    Failure(FailureKind.TOOL, "here", "why"),
    Settlement("c#0", ENTRY, (("c#0.1", 7),)),
    Lost(REQUEST),
    Reservation("c#0.2", CALLER, 7, ("c#0.1",)),
]


@pytest.mark.parametrize("record", ALL, ids=lambda record: type(record).__name__)
def test_every_record_survives(record: object) -> None:
    assert unpack(pack([record])) == [record]


def test_what_a_batch_shares_travels_and_arrives_once() -> None:
    requests = [replace(REQUEST, call_id=f"{number}") for number in range(100)]
    arrived = unpack(pack(requests))
    assert len({id(request.task) for request in arrived}) == 1
    assert len({id(request.option.prices) for request in arrived}) == 1


def test_no_record_of_a_call_goes_the_slow_way() -> None:
    names = {name for record in ALL for name in _classes(pickle.dumps(record))}
    assert names <= {record.__name__ for record in RECORDS} | {"FailureKind"}


def _classes(pickled: bytes) -> set[str]:
    """Names of the project's classes in a pickle."""
    import pickletools

    strings = [arg for _, arg, _ in pickletools.genops(pickled) if isinstance(arg, str)]
    modules = [i for i, text in enumerate(strings) if text.startswith("orchestra_ray.")]
    return {strings[i + 1] for i in modules}
