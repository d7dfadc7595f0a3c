"""An item of a batch that cannot be packed, read, settled or written fails alone."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.faults import Failure, FailureKind, Fault, FaultKind
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
)
from orchestra_ray.core.serialization import pack, pack_items, unpack
from orchestra_ray.data.catalogue import Catalogue, Entry
from orchestra_ray.spend.accounts import SpendAccounts, call_of
from orchestra_ray.spend.budget import SpendBudget, SpendLimits
from orchestra_ray.spend.client import BatchedSpendClient, SpendUnreachable
from orchestra_ray.spend.ledger import FOLDER, Ledger, read
from orchestra_ray.workers.tools.runtime.client import Pool, Results, Unsendable
from orchestra_ray.workers.tools.runtime.health import ExecutorState

from ..pool_clients import LocalClient, Losses, pool_over

CALLER = Caller(1, "g", "g/0", 2)
OPTION = ToolOption("nova", "m", "model", "", Prices(call_nanousd=7), 0.5)
REQUEST = ToolRequest("c", CALLER, OPTION, {}, Task("t", "f", "?", {}), 3, 4)
ENTRY = LedgerEntry("c", CALLER, "m", "nova", "model", "p", Usage(1, 0, 2), 7, 0.25)


class _Unreadable:
    """Packs well, and raises when it is read back."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class _Unpackable:
    def __reduce__(self) -> Any:
        raise RuntimeError("not to be packed\nat all")


def deep(levels: int = 3000) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


BAD: Sequence[Callable[[], Any]] = (deep, _Unreadable, _Unpackable, lambda: lambda: 0)
SPOILT = st.lists(st.none() | st.sampled_from(BAD), max_size=12)


def spoilt_requests(spoilt: list[Callable[[], Any] | None]) -> list[ToolRequest]:
    return [
        replace(REQUEST, call_id=f"{number}", arguments={"x": 1 if spoil is None else spoil()})
        for number, spoil in enumerate(spoilt)
    ]


@given(SPOILT)
def test_what_can_be_packed_goes_and_the_rest_is_named(
    spoilt: list[Callable[[], Any] | None],
) -> None:
    packed, bad = pack_items(spoilt_requests(spoilt), "head")
    assert set(bad) == {number for number, spoil in enumerate(spoilt) if spoil is not None}
    assert all(why and "\n" not in why for why in bad.values())
    head, arrived = unpack(packed)
    assert head == "head"
    assert [one.call_id for one in arrived] == [
        f"{number}" for number, spoil in enumerate(spoilt) if spoil is None
    ]
    assert len({id(one.task) for one in arrived}) <= 1


@given(st.integers(100, 1000))
def test_an_item_at_the_brink_of_what_can_be_packed_takes_no_neighbour_along(levels: int) -> None:
    packed, bad = pack_items(spoilt_requests([None, lambda: deep(levels), None]))
    [arrived] = unpack(packed)
    assert set(bad) <= {1} and len(arrived) + len(bad) == 3


def test_pack_raises_where_the_other_side_could_not_read() -> None:
    with pytest.raises(ValueError, match="no number"):
        pack([_Unreadable()])


class PackingClient(LocalClient):
    """Packs the calls as the client of an actor does."""

    async def exchange(self, requests: Sequence[ToolRequest]) -> Results:
        _, bad = pack_items(requests)
        if bad:
            raise Unsendable({call_of(requests[index]): why for index, why in bad.items()})
        return await super().exchange(requests)


@pytest.mark.parametrize("spoil", BAD)
def test_a_call_that_cannot_be_sent_ends_at_once_and_its_neighbours_go_through(
    entries: dict[str, Entry], make_request: Callable[..., ToolRequest], spoil: Callable[[], Any]
) -> None:
    async def main() -> None:
        losses = Losses()
        client = PackingClient()
        pool = pool_over([client], Catalogue(entries, "p"), losses)
        arguments = [{}, {"x": spoil()}, {}, {"x": spoil()}, {}]
        calls = [
            pool.call(make_request(entries["fast"], given, call_id=f"{number}"))
            for number, given in enumerate(arguments)
        ]
        async with asyncio.timeout(5):
            results = await asyncio.gather(*calls)
        assert [isinstance(result, Failure) for result in results] == [bool(a) for a in arguments]
        failure = results[1]
        assert isinstance(failure, Failure) and failure.kind is FailureKind.TOOL
        assert "fast: the call cannot be sent" in failure.message
        assert [request.call_id for request in losses.requests] == ["1", "3"]
        assert client.batches == [3] and pool.in_flight == 0
        assert pool.health()[0].state is ExecutorState.LIVE

    asyncio.run(main())


class BrokenClient(LocalClient):
    """Each exchange of `broken` raises, before or after it has given out its calls."""

    def __init__(self, broken: int, after: bool = False):
        super().__init__()
        self.broken, self.after = broken, after

    async def exchange(self, requests: Sequence[ToolRequest]) -> Results:
        if not self.broken:
            return await super().exchange(requests)
        self.broken -= 1
        if self.after:
            self._tasks += [asyncio.create_task(self._run(request)) for request in requests]
        await asyncio.sleep(0)
        raise KeyError("a bug of ours")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("broken", [1, 2, 1000])
def test_no_call_waits_for_its_deadline_because_an_exchange_broke(
    entries: dict[str, Entry],
    make_request: Callable[..., ToolRequest],
    broken: int,
    after: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)

    async def main() -> None:
        pool = pool_over([BrokenClient(broken, after)], Catalogue(entries, "p"), Losses())
        names = ["fast", "slow-once", "fast", "slow"]
        calls = [
            pool.call(make_request(entries[name], call_id=f"{number}"))
            for number, name in enumerate(names)
        ]
        async with asyncio.timeout(5):
            results = await asyncio.gather(*calls)
        # What may be made twice is made again, once; the other one may have acted.
        again = [isinstance(result, Failure) for result in results]
        assert again == [broken > 1, True, broken > 1, broken > 1]
        assert pool.in_flight == 0
        if broken < 1000:
            late = await pool.call(make_request(entries["fast"], call_id="late"))
            assert not isinstance(late, Failure)

    asyncio.run(main())


def test_an_executor_whose_return_breaks_is_gone_and_its_calls_end(
    entries: dict[str, Entry],
    make_request: Callable[..., ToolRequest],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)

    class NeverBack(LocalClient):
        async def revived(self) -> None:
            raise KeyError("a bug of ours")

    async def main() -> None:
        client = NeverBack()
        client.dead.set()
        pool = Pool({"0": client}, Catalogue(entries, "p"), Losses())
        async with asyncio.timeout(5):
            result = await pool.call(make_request(entries["fast"], call_id="a"))
        assert isinstance(result, Failure)
        assert pool.health()[0].state is ExecutorState.GONE

    asyncio.run(main())


class OpenTransport:
    """Reads what comes, as the actor does."""

    def __init__(self, breaks: Sequence[Exception] = ()):
        self.breaks = list(breaks)
        self.posted: list[Any] = []

    async def reserve(self, asked: bytes) -> list[str | None]:
        await self._way()
        [reservations] = unpack(asked)
        return [None if one.most_nanousd < 10 else "too much" for one in reservations]

    async def settle(self, ended: bytes) -> None:
        await self._way()
        [settlements] = unpack(ended)
        self.posted += settlements

    async def _way(self) -> None:
        await asyncio.sleep(0)
        if self.breaks:
            raise self.breaks.pop()


@given(SPOILT)
def test_settlements_that_cannot_be_sent_are_counted_alone(
    spoilt: list[Callable[[], Any] | None],
) -> None:
    async def main() -> None:
        transport = OpenTransport()
        client = BatchedSpendClient(transport, count_calls=False, deadline_s=5, tries=2)
        for number, spoil in enumerate(spoilt):
            alias: Any = "nova" if spoil is None else spoil()
            client.enter(Settlement(f"{number}", replace(ENTRY, alias=alias)))
        async with asyncio.timeout(5):
            assert await client.drain() == sum(spoil is not None for spoil in spoilt)
        good = [f"{number}" for number, spoil in enumerate(spoilt) if spoil is None]
        assert [settlement.call for settlement in transport.posted] == good

    asyncio.run(main())


@given(SPOILT)
def test_every_reservation_gets_an_answer(spoilt: list[Callable[[], Any] | None]) -> None:
    async def main() -> None:
        client = BatchedSpendClient(OpenTransport(), count_calls=False, deadline_s=5, tries=2)
        asked = [
            Reservation(f"c#0.{number}", CALLER, number, () if spoil is None else (spoil(),))
            for number, spoil in enumerate(spoilt)
        ]
        async with asyncio.timeout(5):
            answers = await asyncio.gather(*map(client.reserve, asked), return_exceptions=True)
        for number, (answer, spoil) in enumerate(zip(answers, spoilt, strict=True)):
            if spoil is None:
                assert answer == (None if number < 10 else "too much")
            else:
                assert isinstance(answer, Fault) and answer.kind is FaultKind.UNAVAILABLE

    asyncio.run(main())


def test_a_lost_call_is_settled_though_its_arguments_cannot_be_packed() -> None:
    async def main() -> None:
        transport = OpenTransport()
        client = BatchedSpendClient(transport, count_calls=False, deadline_s=5, tries=2)
        client.lost(replace(REQUEST, arguments={"x": deep()}))
        assert await client.drain() == 0
        assert [call_of(lost.request) for lost in transport.posted] == ["c#0"]

    asyncio.run(main())


@pytest.mark.parametrize("error", [KeyError("a bug"), SpendUnreachable(), TimeoutError()])
def test_every_error_of_the_transport_is_an_answer_or_counted(error: Exception) -> None:
    async def main() -> None:
        client = BatchedSpendClient(
            OpenTransport([error] * 9), count_calls=False, deadline_s=5, tries=2
        )
        with pytest.raises(Fault) as caught:
            await client.reserve(Reservation("c#0.1", CALLER, 1))
        assert caught.value.kind is FaultKind.UNAVAILABLE
        entered = client.enter(Settlement("c#0", ENTRY))
        async with asyncio.timeout(5):
            assert await client.drain() == 1 and entered.is_set()

    asyncio.run(main())


def test_a_settlement_that_breaks_the_accounts_is_reported_and_the_others_are_entered() -> None:
    accounts = SpendAccounts(SpendBudget(SpendLimits()), Ledger("run"))
    broken: Any = replace(ENTRY, charged_nanousd="seven")
    good = replace(ENTRY, charged_nanousd=0)
    batch = [
        Settlement("a", replace(good, call_id="a")),
        Settlement("b", broken),
        Lost(replace(REQUEST, option=None)),  # type: ignore[arg-type]
        Settlement("c", replace(good, call_id="c")),
        None,
        Failure(FailureKind.TOOL, "here", "why"),
    ]
    accounts.settle(batch)  # type: ignore[arg-type]
    closed = accounts.close_step(1)
    assert closed.totals["ledger/calls"] >= 2
    messages = [failure.message for failure in closed.failures]
    assert closed.totals["ledger/inconsistent"] == 2 and "why" in messages and len(messages) == 3
    assert any(message.startswith("b: ") for message in messages)


def test_a_reservation_that_breaks_the_budget_is_refused_alone() -> None:
    accounts = SpendAccounts(SpendBudget(SpendLimits(run_nanousd=100)), Ledger("run"))
    broken: Any = replace(Reservation("c#0.2", CALLER, 1), most_nanousd="much")
    asked = [Reservation("c#0.1", CALLER, 1), broken, Reservation("c#0.3", CALLER, 1)]
    first, refused, last = accounts.reserve(asked)
    assert first is None and last is None and refused and "cannot read" in refused
    assert len(accounts.close_step(1).failures) == 1


@given(st.lists(st.sampled_from(["good", "\ud800", 2**70, None]), min_size=1, max_size=8))
def test_an_entry_that_no_row_can_hold_is_left_out_alone(
    tmp_path_factory: pytest.TempPathFactory, aliases: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("run") / FOLDER
    ledger = Ledger("run", folder)
    ledger.add(
        replace(ENTRY, call_id=f"{number}", alias=alias) for number, alias in enumerate(aliases)
    )
    bad = sum(alias not in ("good", None) for alias in aliases)
    failure = ledger.flush()
    assert (failure is not None) == bool(bad)
    assert ledger.flush() is None  # reported once
    rows = read(folder).num_rows if len(aliases) > bad else 0
    assert rows == len(aliases) - bad
    metrics = ledger.metrics()
    assert (metrics["ledger/unwritable"], metrics["ledger/unwritten"]) == (bad, 0)
    assert metrics["ledger/calls"] == len(aliases)
