"""Attempts against tools that fail in scripted ways, with the real spend budget behind them."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.records import Reservation, ToolRequest
from orchestra_ray.data.catalogue import Choice, Entry, Kind, model_of
from orchestra_ray.spend.accounts import call_of
from orchestra_ray.spend.budget import SpendBudget, SpendLimits, most_cost_nanousd
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.runtime.attempts import Bill, Service, quota_of, worth

Step = Reply | Fault | float
TOKENS = Prices(input_nanousd_per_mtok=1_000_000, output_nanousd_per_mtok=1_000_000)
MOST = 200  # of a token-priced entry with limits of 100 and 100 tokens


@dataclass
class Scripted:
    """Replies, raises, or sleeps and then replies, in the order of its script."""

    script: Sequence[Step]
    calls: int = 0
    running: int = 0
    most_running: int = 0
    started_s: list[float] = field(default_factory=list)

    async def call(self, request: ToolRequest) -> Reply:
        step = self.script[min(self.calls, len(self.script) - 1)]
        self.calls += 1
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        self.started_s.append(time.monotonic())
        try:
            if isinstance(step, Fault):
                raise step
            if isinstance(step, float):
                await asyncio.sleep(step)
                return Reply("late")
            return step
        finally:
            self.running -= 1

    async def close(self) -> None:
        pass


class Guarded:
    count_calls = False

    def __init__(self, limits: SpendLimits | None = None):
        self.budget = SpendBudget(limits or SpendLimits())

    async def reserve(self, asked: Reservation) -> str | None:
        return self.budget.reserve(asked)


def passing(kind: FaultKind = FaultKind.SERVER_ERROR, usage: Usage | None = None) -> Fault:
    return Fault(kind, "no", usage, retry_after_s=0.0)


def unsent() -> Fault:
    return Fault(FaultKind.CONNECTION, "refused", retry_after_s=0.0, sent=False)


def attempt(
    entry: Entry, script: Sequence[Step], request: ToolRequest, guarded: Guarded
) -> tuple[Reply | Fault, Bill, Scripted]:
    tool, bill = Scripted(script), Bill()

    async def main() -> Reply | Fault:
        try:
            return await Service(entry, tool).call(request, guarded, bill)
        except Fault as fault:
            return fault

    outcome = asyncio.run(main())
    for key, charged_nanousd in bill.charges:
        guarded.budget.settle(key, charged_nanousd)
    assert not guarded.budget.held_of(call_of(request))
    assert guarded.budget.committed_nanousd == bill.charged_nanousd
    return outcome, bill, tool


@pytest.mark.parametrize(
    ("script", "calls", "charged"),
    [
        ([Reply("ok", Usage(10, output_tokens=5))], 1, 15),
        ([passing(), Reply("ok", Usage(10))], 2, 10),
        ([passing(), passing(), passing()], 3, 0),
        ([passing(usage=Usage(30)), Reply("ok", Usage(10))], 2, 40),
        ([passing(FaultKind.TIMEOUT), Reply("ok", Usage(10))], 2, MOST + 10),
        ([passing(FaultKind.BAD_REPLY)], 3, 3 * MOST),
        ([unsent()], 3, 0),
        ([unsent(), passing(FaultKind.TIMEOUT), unsent()], 3, MOST),
        ([Fault(FaultKind.REJECTED, "key")], 1, 0),
        ([Reply("more than was allowed", Usage(10_000))], 1, MOST),
    ],
)
def test_every_attempt_is_charged_what_was_billed_for_it(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    script: Sequence[Step],
    calls: int,
    charged: int,
) -> None:
    entry = make_entry(prices=TOKENS, retries=2)
    assert most_cost_nanousd(entry, entry.prices) == MOST
    outcome, bill, tool = attempt(entry, script, make_request(entry), Guarded())
    assert (tool.calls, bill.attempts, bill.charged_nanousd) == (calls, calls, charged)
    assert isinstance(outcome, Reply) == isinstance(script[min(calls, len(script)) - 1], Reply)


@pytest.mark.parametrize("kind", [FaultKind.TIMEOUT, FaultKind.CONNECTION, FaultKind.BAD_REPLY])
def test_an_attempt_that_may_have_acted_is_not_made_again(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest], kind: FaultKind
) -> None:
    for stated, calls in ((False, 1), (None, 1), (True, 3)):
        entry = make_entry(retries=2, idempotent=stated)
        outcome, _, tool = attempt(entry, [passing(kind)], make_request(entry), Guarded())
        assert isinstance(outcome, Fault) and tool.calls == calls
    turned_away = make_entry(retries=2, idempotent=False)
    for script in ([passing(FaultKind.RATE_LIMITED)], [unsent()]):
        assert attempt(turned_away, script, make_request(turned_away), Guarded())[2].calls == 3


@pytest.mark.parametrize(
    ("script", "most"), [([unsent()], 0), ([unsent(), passing(FaultKind.TIMEOUT)], MOST)]
)
def test_a_replay_weighs_a_call_that_never_left_as_nothing(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    script: Sequence[Step],
    most: int,
) -> None:
    entry = make_entry(prices=replace(TOKENS, call_nanousd=0), retries=1)
    outcome, bill, _ = attempt(entry, script, make_request(entry), Guarded())
    assert isinstance(outcome, Fault) and bill.charged_nanousd == most
    replayed = Bill(usage=bill.recorded, service_s=bill.service_s)
    assert worth(entry, entry.prices, replayed, outcome.kind) == most


@pytest.mark.parametrize(
    ("backend", "prices", "calls"),
    [
        ("endpoint", TOKENS, 3),  # its provider is sent the call's key
        ("recipe", TOKENS, 3),
        ("web_search", TOKENS, 1),  # there is no key that it would know
        ("web_search", Prices(), 3),
        ("search", TOKENS, 3),  # free
        ("mcp", Prices(), 1),  # may act
    ],
)
def test_what_may_have_been_billed_is_made_again_only_under_a_key(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    backend: str,
    prices: Prices,
    calls: int,
) -> None:
    made = make_entry(prices=prices, retries=2, idempotent=None)
    entry = replace(made, backend=backend)
    script = [passing(FaultKind.TIMEOUT)]
    assert attempt(entry, script, make_request(entry), Guarded())[2].calls == calls


def test_a_refused_attempt_is_never_made(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest]
) -> None:
    entry = make_entry(prices=TOKENS, retries=2)
    guarded = Guarded(SpendLimits(run_nanousd=MOST - 1))
    outcome, bill, tool = attempt(entry, [Reply("ok")], make_request(entry), guarded)
    assert isinstance(outcome, Fault) and outcome.kind is FaultKind.BUDGET
    assert "budget exhausted" in str(outcome) and tool.calls == 0 and bill.charged_nanousd == 0


@pytest.mark.parametrize(
    ("script", "limit", "calls", "refused"),
    [
        ([passing(usage=Usage(1)), Reply("ok", Usage(10))], 2 * MOST, 2, False),
        ([passing(usage=Usage(1)), Reply("ok", Usage(10))], 2 * MOST - 1, 1, True),
        ([passing(FaultKind.TIMEOUT), Reply("ok", Usage(10))], 2 * MOST - 1, 1, True),
        ([passing(), passing(), Reply("ok", Usage(10))], MOST, 3, False),  # they were turned away
        ([Reply("ok", Usage(10))], MOST - 1, 0, True),
    ],
)
def test_a_call_with_its_retries_costs_no_more_than_a_call_may(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    script: Sequence[Step],
    limit: int,
    calls: int,
    refused: bool,
) -> None:
    entry = make_entry(prices=TOKENS, retries=2)
    guarded = Guarded(SpendLimits(call_nanousd=limit))
    outcome, bill, tool = attempt(entry, script, make_request(entry), guarded)
    assert tool.calls == calls and bill.charged_nanousd <= limit
    assert refused == (isinstance(outcome, Fault) and outcome.kind is FaultKind.BUDGET)


def test_hedges_at_the_same_time_do_not_pass_the_limit_of_their_call(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest]
) -> None:
    entry = make_entry(hedge_after_s=0.02)
    for limit, calls in ((13, 1), (14, 2)):
        guarded = Guarded(SpendLimits(call_nanousd=limit))
        outcome, bill, tool = attempt(entry, [0.2, 0.2], make_request(entry), guarded)
        assert isinstance(outcome, Reply) and outcome.text == "late"
        assert (tool.calls, bill.charged_nanousd) == (calls, 7 * calls)
    issues = [make_request(entry, call_id="c"), replace(make_request(entry), reissues=1)]
    guarded, tool = Guarded(SpendLimits(call_nanousd=20)), Scripted([0.2])

    async def main() -> None:
        services = [Service(entry, tool) for _ in issues]  # of two executors
        calls = [s.call(r, guarded, Bill()) for s, r in zip(services, issues, strict=True)]
        await asyncio.gather(*calls)

    asyncio.run(main())
    assert tool.calls == 2 and guarded.budget.committed_nanousd == 14


def test_the_tokens_of_a_call_are_those_of_all_its_attempts(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest]
) -> None:
    entry = make_entry(prices=TOKENS, retries=3)
    script = [
        passing(usage=Usage(30, 20, 5, 4, 1)),
        passing(FaultKind.TIMEOUT),  # unknown usage
        passing(usage=Usage(1, 0, 2, billed_s=1.5)),
        Reply("ok", Usage(10, 5, 6, 3, 1), service_s=2.0),
    ]
    _, bill, _ = attempt(entry, script, make_request(entry), Guarded())
    before_s = (bill.usage.billed_s or 0) - 1.5 - 2.0
    assert bill.usage == Usage(41, 25, 13, 7, 2, billed_s=bill.usage.billed_s)
    assert 0 <= before_s <= bill.service_s - 2.0  # of attempts whose seconds are all billed
    assert bill.charged_nanousd == 15 + MOST + 3 + 11  # what is cached is free


@pytest.mark.parametrize("kind", [FaultKind.RATE_LIMITED, FaultKind.SERVER_ERROR])
def test_a_pause_beyond_the_deadline_ends_the_call_at_once_as_what_it_is(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest], kind: FaultKind
) -> None:
    entry = make_entry(retries=2, deadline_s=600.0)
    later = Fault(kind, "later", retry_after_s=600.0)
    outcome, _, tool = attempt(entry, [later], make_request(entry), Guarded())
    assert outcome is later and tool.calls == 1


def test_a_slow_call_is_hedged_and_both_are_charged(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest]
) -> None:
    entry = make_entry(hedge_after_s=0.05)
    outcome, bill, tool = attempt(entry, [5.0, Reply("ok")], make_request(entry), Guarded())
    assert isinstance(outcome, Reply) and outcome.text == "ok"
    assert (bill.hedges, bill.charged_nanousd, tool.calls, tool.running) == (1, 14, 2, 0)


def test_a_hedge_waits_for_the_other_where_one_fails(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest]
) -> None:
    entry = make_entry(hedge_after_s=0.05)
    outcome, bill, _ = attempt(entry, [0.2, passing()], make_request(entry), Guarded())
    assert isinstance(outcome, Reply) and outcome.text == "late" and bill.hedges == 1


def test_concurrency_and_rate_hold(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest]
) -> None:
    entry = make_entry(concurrency=2, calls_per_s=50.0)
    tool, guarded = Scripted([0.05]), Guarded()

    async def main() -> None:
        service = Service(entry, tool)
        requests = [make_request(entry, call_id=f"c{i}") for i in range(10)]
        await asyncio.gather(*(service.call(r, guarded, Bill()) for r in requests))

    asyncio.run(main())
    gaps_s = [b - a for a, b in zip(tool.started_s, tool.started_s[1:], strict=False)]
    assert tool.most_running == 2
    assert min(gaps_s) > 0.01


def test_an_endpoint_that_keeps_failing_is_left_alone(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest]
) -> None:
    entry, tool = make_entry(), Scripted([passing()])

    async def main() -> list[FaultKind]:
        service, kinds = Service(entry, tool), []
        for i in range(8):
            try:
                await service.call(make_request(entry, call_id=f"c{i}"), Guarded(), Bill())
            except Fault as fault:
                kinds.append(fault.kind)
        return kinds

    kinds = asyncio.run(main())
    assert kinds == [FaultKind.SERVER_ERROR] * 5 + [FaultKind.UNAVAILABLE] * 3
    assert tool.calls == 5


RECIPES: Mapping[str, str | None] = {"plain": None, "running": "tool", "also": "tool"}
PARTS = ("model", "other", "tool")
asked_for = st.one_of(
    st.tuples(st.sampled_from(PARTS), st.just("")),
    st.tuples(st.sampled_from(list(RECIPES)), st.sampled_from(["model", "other"])),
)


class Counted:
    """How many calls are inside each entry, directly or through a recipe, and the most of them."""

    def __init__(self) -> None:
        self.inside: Counter[str] = Counter()
        self.most: Counter[str] = Counter()

    async def call(self, request: ToolRequest) -> Reply:
        option = request.option
        kept = {option.identity, model_of(option), RECIPES.get(option.identity)} - {"", None}
        self.inside.update(kept)
        self.most |= self.inside
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return Reply("ok")
        finally:
            self.inside.subtract(kept)

    async def close(self) -> None:
        pass


def by(request: ToolRequest, model: str) -> ToolRequest:
    """A recipe's call, done by a model."""
    choice = replace(request.option, identity=model, kind="model")
    return replace(request, option=replace(request.option, choices=(choice,)))


@given(
    st.lists(st.tuples(asked_for, st.booleans()), max_size=30),
    st.dictionaries(st.sampled_from([*PARTS, *RECIPES]), st.integers(1, 3)),
)
def test_limits_hold_for_an_entry_asked_itself_and_through_recipes_and_all_come_to_an_end(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    asked: list[tuple[tuple[str, str], bool]],
    limits: Mapping[str, int],
) -> None:
    choices = tuple(Choice(name, name, "", 0.0) for name in ("model", "other"))
    entries = {name: make_entry(name, concurrency=limits.get(name)) for name in PARTS}
    for name, runs in RECIPES.items():
        made = make_entry(name, concurrency=limits.get(name))
        entries[name] = replace(made, choices=choices, runs=runs)
    entries |= {n: replace(entries[n], kind=Kind.MODEL) for n in ("model", "other")}
    counted, services = Counted(), dict[str, Service]()
    for name, entry in entries.items():
        services[name] = Service(entry, counted, (0, 1), services)

    async def main() -> None:
        calls = []
        for number, ((name, model), gives_up) in enumerate(asked):
            request = make_request(entries[name], call_id=f"c{number}")
            request = by(request, model) if model else request
            work = services[name].call(request, Guarded(), Bill())
            calls.append((asyncio.create_task(work), gives_up))
            await asyncio.sleep(0)
        for call, gives_up in calls:
            if gives_up:
                call.cancel()
        async with asyncio.timeout(30):
            await asyncio.gather(*(call for call, _ in calls), return_exceptions=True)
        assert all(gives_up or call.result().text == "ok" for call, gives_up in calls)
        limiters = [service.limiter for service in services.values()]
        assert not any(limiter.inside or limiter.waiting for limiter in limiters)

    asyncio.run(main())
    assert all(counted.most[name] <= most for name, most in limits.items())


def test_a_recipe_rests_from_the_model_that_fails_and_from_no_other(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest]
) -> None:
    class Down:
        calls = 0

        async def call(self, request: ToolRequest) -> Reply:
            self.calls += 1
            if model_of(request.option) == "down":
                raise passing()
            return Reply("ok")

        async def close(self) -> None:
            pass

    choices = tuple(Choice(name, name, "", 0.0) for name in ("down", "up"))
    entry, tool = replace(make_entry(), choices=choices), Down()

    async def main() -> list[object]:
        service, ends = Service(entry, tool), []
        for model in (*["down"] * 7, "up", "down"):
            try:
                made = await service.call(by(make_request(entry), model), Guarded(), Bill())
                ends.append(made.text)
            except Fault as fault:
                ends.append(fault.kind)
        return ends

    failed, rests = FaultKind.SERVER_ERROR, FaultKind.UNAVAILABLE
    assert asyncio.run(main()) == [*[failed] * 5, rests, rests, "ok", rests]
    assert tool.calls == 6


@given(st.integers(0, 50), st.integers(1, 20))
def test_quotas_of_a_limit_sum_to_it(limit: int, executors: int) -> None:
    quotas = [quota_of(limit, index, executors) for index in range(executors)]
    assert sum(quotas) == limit and max(quotas) - min(quotas) <= 1
