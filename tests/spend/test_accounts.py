"""The spend accounts against random histories: no spend is lost, counted twice or over a limit.

Calls run concurrently through the real executor, with retries, hedges, replays, bugs and deadlines,
executors that die at any point, lost answers to grants, and settlements that are sent twice.
"""

import asyncio
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
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
    ToolResult,
)
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind, Limits
from orchestra_ray.spend.accounts import SpendAccounts, call_of
from orchestra_ray.spend.budget import MEASUREMENT, SpendBudget, SpendLimits, most_cost_nanousd
from orchestra_ray.spend.ledger import Ledger, read, table
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.replay.cassette import Cassette, Mode
from orchestra_ray.workers.tools.runtime.executor import Executor

TOKENS = Prices(input_nanousd_per_mtok=1_000_000, output_nanousd_per_mtok=3_000_000)
LIMITS = Limits(deadline_s=0.05, context_tokens=100, max_output_tokens=100)
ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("tokens", Kind.MODEL, "", "none", TOKENS, 0.0, LIMITS),
        Entry(
            "hedged",
            Kind.TOOL,
            "",
            "none",
            Prices(call_nanousd=7),
            0.0,
            replace(LIMITS, hedge_after_s=0.002),
        ),
        Entry("free", Kind.TOOL, "", "none", Prices(), 0.0, LIMITS),
    )
}
CATALOGUE = Catalogue(ENTRIES, "prices")
RECORDED = 4  # seeds on the tape; the last one's call was a fault


class Act(Enum):
    """The outcome of one attempt."""

    REPLY = auto()
    BILLED = auto()  # a fault that comes with usage
    OUTAGE = auto()  # a fault that costs nothing
    UNKNOWN = auto()  # a fault with an unknown bill
    REFUSED = auto()  # a fault that is not retried
    BUG = auto()
    HANG = auto()
    DEATH = auto()  # of the executor under it
    ANSWER_LOST = auto()  # the grant is lost on its way back


class Delivery(Enum):
    """The fate of a settlement on its way to the accounts."""

    ENTERED = auto()
    LOST = auto()  # its executor dies before it is sent
    UNDELIVERED = auto()  # it is entered, and the executor dies before the answer arrives


@dataclass(frozen=True)
class Planned:
    step: int
    episode: str
    turn: int
    name: str  # of the entry, or "replayed"
    seed: int
    script: tuple[tuple[Act, int], ...]  # with tokens
    deliveries: tuple[Delivery, ...] = ()  # of the first issues of the call; all others are entered


planned = st.builds(
    Planned,
    step=st.integers(MEASUREMENT, 2),
    episode=st.sampled_from("ef"),
    turn=st.integers(0, 1),
    name=st.sampled_from(["tokens", "tokens", "hedged", "free", "replayed"]),
    seed=st.integers(0, RECORDED - 1),
    script=st.lists(
        st.tuples(st.sampled_from(Act), st.integers(0, 130)), min_size=1, max_size=4
    ).map(tuple),
    deliveries=st.lists(st.sampled_from([Delivery.ENTERED, *Delivery]), max_size=2).map(tuple),
)


@dataclass
class Provider:
    """Follows the scripts of calls, and records the usage and the bill."""

    scripts: dict[str, deque[tuple[Act, int]]]
    died: dict[str, asyncio.Event]
    billed: Counter[str]
    attempts: Counter[str]
    used: Counter[str]  # input tokens, and as many output tokens

    async def call(self, request: ToolRequest) -> Reply:
        call, prices = call_of(request), request.option.prices
        script = self.scripts[request.call_id]
        act, tokens = script.popleft() if script else (Act.REPLY, 0)
        usage, most = Usage(tokens, output_tokens=tokens), most_of(request)
        self.attempts[call] += 1
        known = act in (Act.REPLY, Act.BILLED, Act.ANSWER_LOST)
        free = act in (Act.OUTAGE, Act.REFUSED)
        self.used[call] += tokens if known else 0
        self.billed[call] += min(most, prices.cost_nanousd(usage)) if known else most * (not free)
        match act:
            case Act.BILLED:
                raise Fault(FaultKind.SERVER_ERROR, "no", usage, retry_after_s=0.0)
            case Act.OUTAGE:
                raise Fault(FaultKind.RATE_LIMITED, "no", retry_after_s=0.0)
            case Act.UNKNOWN:
                raise Fault(FaultKind.BAD_REPLY, "no", retry_after_s=0.0)
            case Act.REFUSED:
                raise Fault(FaultKind.REJECTED, "no")
            case Act.BUG:
                raise ZeroDivisionError
            case Act.DEATH:
                self.died[request.call_id].set()
                await asyncio.Event().wait()
            case Act.HANG:
                await asyncio.Event().wait()
        return Reply("ok", usage)

    async def close(self) -> None:
        pass


class LossyClient:
    """A client that may lose an answer, and delivers every settlement twice."""

    def __init__(
        self, accounts: SpendAccounts, provider: Provider, deliveries: Mapping[str, Delivery]
    ):
        self.accounts, self.scripts = accounts, provider.scripts
        self.died, self.deliveries = provider.died, deliveries
        self.undelivered: list[LedgerEntry] = []
        self.count_calls = accounts.budget.limits.count_calls

    async def reserve(self, asked: Reservation) -> str | None:
        (answer,) = self.accounts.reserve([asked])
        script = self.scripts[asked.call.partition("#")[0]]
        if script and script[0][0] is Act.ANSWER_LOST:
            script.popleft()
            raise Fault(FaultKind.UNAVAILABLE, "the spend actor does not answer")
        return answer

    def enter(self, settlement: Settlement) -> asyncio.Event | None:
        delivery = self.deliveries.get(settlement.call, Delivery.ENTERED)
        if delivery is not Delivery.LOST:
            self.accounts.settle([settlement])
            self.accounts.settle([settlement])
        if delivery is Delivery.ENTERED:
            return None
        if delivery is Delivery.UNDELIVERED:
            self.undelivered.append(settlement.entry)
        self.died[settlement.entry.call_id].set()
        return asyncio.Event()


def most_of(request: ToolRequest) -> int:
    return most_cost_nanousd(ENTRIES[request.option.identity], request.option.prices)


def request_of(plan: Planned, number: int) -> ToolRequest:
    name = "tokens" if plan.name == "replayed" else plan.name
    entry = ENTRIES[name]
    caller = Caller(plan.step, "g", plan.episode, plan.turn)
    option = ToolOption(name, name, entry.kind, "", entry.prices, 0.0)
    return ToolRequest(f"c{number}", caller, option, {}, Task("t", "", "?", {}), plan.seed, 0)


@pytest.fixture(scope="module")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Cassette:
    """A recording of the calls of some seeds, opened for replay."""
    path = tmp_path_factory.mktemp("tape") / "tape.sqlite"
    plans = [
        Planned(1, "e", 0, "tokens", seed, ((act, 10 + seed),))
        for seed, act in enumerate([*[Act.REPLY] * (RECORDED - 1), Act.REFUSED])
    ]
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(
            simulate(plans, SpendLimits(), Path(folder), Cassette(path, Mode.RECORD), all_=True)
        )
    return Cassette(path, Mode.REPLAY)


@dataclass
class History:
    accounts: SpendAccounts
    provider: Provider
    requests: list[ToolRequest]  # of every issue of a call
    results: dict[str, LedgerEntry]  # by call
    lost: set[str]
    undelivered: list[LedgerEntry]  # of calls without a delivered result


async def simulate(
    plans: list[Planned],
    limits: SpendLimits,
    folder: Path | None,
    tape: Cassette,
    all_: bool = False,
) -> History:
    """`all_`: every call uses the tape, not only the replayed ones."""
    scripts = {f"c{i}": deque(plan.script) for i, plan in enumerate(plans)}
    died = {call_id: asyncio.Event() for call_id in scripts}
    accounts = SpendAccounts(SpendBudget(limits), Ledger("run", folder))
    deliveries = {
        f"c{i}#{n}": delivery
        for i, plan in enumerate(plans)
        for n, delivery in enumerate(plan.deliveries)
    }
    provider = Provider(scripts, died, Counter(), Counter(), Counter())
    client = LossyClient(accounts, provider, deliveries)
    history = History(accounts, provider, [], {}, set(), client.undelivered)
    tools = dict.fromkeys(ENTRIES, provider)
    live = Executor(CATALOGUE, tools, client)
    taped = Executor(CATALOGUE, tools, client, tape)

    async def reissues(executor: Executor, request: ToolRequest) -> ToolResult | None:
        history.requests.append(request)
        running = asyncio.create_task(executor.execute(request))
        death = asyncio.create_task(died[request.call_id].wait())
        await asyncio.wait({running, death}, return_when=asyncio.FIRST_COMPLETED)
        death.cancel()
        if running.done():  # the caller has the result, even if the executor dies
            return running.result()
        running.cancel()
        await asyncio.wait({running})
        died[request.call_id].clear()
        return None

    async def call(number: int, plan: Planned) -> None:
        executor = taped if all_ or plan.name == "replayed" else live
        request = request_of(plan, number)
        for _ in range(2):
            result = await reissues(executor, request)
            if result is not None:
                assert call_of(request) in accounts._ended  # a delivered result is paid for
                history.results[call_of(request)] = result.entry
                return
            history.lost.add(call_of(request))
            accounts.settle([Lost(request), Lost(request)])
            late = Reservation(f"{call_of(request)}.99", request.caller, 1)
            assert accounts.reserve([late]) == ["this call is over"]
            request = replace(request, reissues=request.reissues + 1)

    await asyncio.gather(*(call(i, plan) for i, plan in enumerate(plans)))
    for step in range(3):
        assert accounts.close_step(step).failures == ()
    return history


def by(rows: list[dict[str, Any]], *keys: str) -> Counter[tuple[Any, ...]]:
    sums: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        sums[tuple(row[key] for key in keys)] += row["charged_nanousd"]
    return sums


def folded(sums: Counter[tuple[Any, ...]], width: int) -> Counter[tuple[Any, ...]]:
    """Sums by the first `width` keys."""
    shorter: Counter[tuple[Any, ...]] = Counter()
    for key, amount in sums.items():
        shorter[key[:width]] += amount
    return shorter


@settings(max_examples=2_000)
@given(
    st.lists(planned, min_size=1, max_size=6),
    st.none() | st.integers(0, 3_000),
    st.none() | st.integers(0, 1_000),
)
def test_sums_are_conserved_from_call_to_run_and_never_pass_a_limit(
    tape: Cassette, plans: list[Planned], run_nanousd: int | None, call_nanousd: int | None
) -> None:
    limits = SpendLimits(call_nanousd, episode_nanousd=run_nanousd, run_nanousd=run_nanousd)
    history = asyncio.run(simulate(plans, limits, None, tape))
    accounts, provider = history.accounts, history.provider
    rows = table("run", accounts.ledger._waiting).to_pylist()  # as they would be written

    calls = Counter(row["call"] for row in rows)
    assert calls == Counter(request.call_id for request in history.requests)
    assert len(rows) == len(history.results) + len(history.lost)

    turns = by(rows, "step", "episode", "turn")
    expected: Counter[tuple[Any, ...]] = Counter()
    for entry in (*history.results.values(), *history.undelivered):
        caller = entry.caller
        expected[caller.step, caller.episode_id, caller.turn] += entry.charged_nanousd
    for row in rows:
        if row["error"] == FaultKind.LOST.value:
            expected[row["step"], row["episode"], row["turn"]] += row["charged_nanousd"]
    assert expected == turns
    assert folded(turns, 2) == by(rows, "step", "episode")
    assert folded(turns, 1) == by(rows, "step")
    total = sum(row["charged_nanousd"] for row in rows)
    assert accounts.budget.committed_nanousd == total
    assert sum(t.charged_nanousd for t in accounts.ledger.by_identity.values()) == total
    assert accounts.inconsistent == 0

    for call, entry in history.results.items():
        assert entry.charged_nanousd == provider.billed[call]
        if not entry.replayed:
            used = provider.used[call]
            assert (entry.usage.input_tokens, entry.usage.output_tokens) == (used, used)
        assert entry.replayed <= (entry.charged_nanousd == 0)
        made = entry.retries + entry.hedges + 1
        assert provider.attempts[call] <= made
    assert total >= provider.billed.total()  # lost calls are charged at the maximum
    if call_nanousd is not None:  # with all issues of it
        assert all(amount <= call_nanousd for amount in by(rows, "call").values())
    if run_nanousd is not None:
        assert total <= run_nanousd
        assert all(amount <= run_nanousd for amount in by(rows, "step", "episode").values())


def settlement(
    make_request: Callable[..., ToolRequest], entry: Entry, charged: int, *settled: tuple[str, int]
) -> Settlement:
    request = make_request(entry)
    made = LedgerEntry(
        call_id=request.call_id,
        caller=request.caller,
        identity=entry.name,
        alias=entry.name,
        kind=entry.kind,
        price_sheet="prices",
        usage=Usage(),
        charged_nanousd=charged,
        service_s=0.0,
    )
    return Settlement(call_of(request), made, settled)


@pytest.mark.parametrize(
    ("charged", "settled"),
    [
        (8, [("c#0.1", 8)]),  # more than was reserved
        (-1, [("c#0.1", -1)]),
        (3, [("c#0.1", 3), ("c#0.2", 0)]),  # an attempt that was never granted
        (4, [("c#0.1", 3)]),  # another sum than that of its attempts
        (3, []),
    ],
)
def test_a_posting_that_cannot_be_right_is_entered_at_the_most_and_told(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    charged: int,
    settled: list[tuple[str, int]],
) -> None:
    entry, accounts = make_entry(), SpendAccounts(SpendBudget(SpendLimits()), Ledger("run"))
    right = replace(settlement(make_request, entry, 0), call="other#0")
    accounts.reserve([Reservation("c#0.1", make_request(entry).caller, 7)])
    accounts.settle([settlement(make_request, entry, charged, *settled), right])
    assert accounts.ledger.by_identity["tool"].calls == 2
    assert (
        accounts.ledger.by_identity["tool"].charged_nanousd
        == accounts.budget.committed_nanousd
        == 7
    )
    closed = accounts.close_step(1)
    assert closed.totals["ledger/inconsistent"] == 1
    (failure,) = closed.failures
    assert failure.message.startswith("c#0: ")
    assert accounts.close_step(2).failures == ()


def test_one_bad_reservation_does_not_spoil_the_others(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest]
) -> None:
    caller = make_request(make_entry()).caller
    accounts = SpendAccounts(SpendBudget(SpendLimits()), Ledger("run"))
    accounts.reserve([Reservation("a#0.1", caller, 5)])
    accounts.budget.settle("a#0.1", 5)
    answers = accounts.reserve([Reservation(key, caller, 5) for key in ("b#0.1", "a#0.1", "c#0.1")])
    assert answers == [None, "this attempt is paid and over", None]


def test_a_call_that_was_posted_is_not_lost_when_its_executor_dies(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest]
) -> None:
    entry = make_entry()
    request, accounts = (
        make_request(entry),
        SpendAccounts(SpendBudget(SpendLimits()), Ledger("run")),
    )
    accounts.reserve([Reservation("c#0.1", request.caller, 7)])
    accounts.settle([settlement(make_request, entry, 3, ("c#0.1", 3)), Lost(request)])
    assert accounts.budget.committed_nanousd == 3 and not accounts.ledger.faults


def test_a_lost_call_names_the_sheet_of_its_offer_and_the_model_behind_it(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest], tmp_path: Path
) -> None:
    accounts = SpendAccounts(SpendBudget(SpendLimits()), Ledger("run", tmp_path))
    request = make_request(make_entry())
    model = replace(request.option, identity="nova", kind="model")
    option = replace(request.option, price_sheet="cheap@1", choices=(model,))
    failure = Failure(FailureKind.INFRASTRUCTURE, "tape", "the disk is full")
    accounts.settle([Lost(replace(request, option=option)), failure])
    assert accounts.close_step(1).failures == (failure,)
    (row,) = read(tmp_path).to_pylist()
    assert (row["price_sheet"], row["model"], row["error"]) == ("cheap@1", "nova", "lost")
