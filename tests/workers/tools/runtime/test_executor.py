"""One call from end to end, with the quick start's tools and real spend accounts behind them."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.records import (
    Caller,
    GroupSpec,
    LedgerEntry,
    Reservation,
    ToolRequest,
    ToolResult,
)
from orchestra_ray.data.catalogue import Catalogue, Entry
from orchestra_ray.data.tasks.reasoning_gym import score_here
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.spend.budget import SpendLimits
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.registry import make_tools
from orchestra_ray.workers.tools.replay.cassette import Cassette, CassetteError, Mode
from orchestra_ray.workers.tools.runtime.executor import CUT_MARK, MAX_CHARACTERS, Executor
from orchestra_ray.workers.tools.validation import resolve

TOKENS = Prices(input_nanousd_per_mtok=1_000_000, output_nanousd_per_mtok=1_000_000)
TWICE = Prices(input_nanousd_per_mtok=2_000_000, output_nanousd_per_mtok=2_000_000)
MOST = 200  # of a token-priced entry with limits of 100 and 100 tokens


def asked(
    group: GroupSpec, name: str, arguments: Mapping[str, Any], call_id: str = "c", seed: int = 0
) -> ToolRequest:
    option = resolve(group.toolset, name, arguments)
    caller = Caller(group.step, group.group_id, group.episodes[0].episode_id, 0)
    given = {} if option.kind == "model" else arguments
    return ToolRequest(call_id, caller, option, given, group.task, seed, 0)


def execute(catalogue: Catalogue, spend: Any, *requests: ToolRequest) -> list[ToolResult]:
    async def main() -> list[ToolResult]:
        executor = Executor(catalogue, make_tools(catalogue), spend)
        try:
            return [await executor.execute(request) for request in requests]
        finally:
            await executor.close()

    return asyncio.run(main())


def test_a_model_is_charged_at_the_prices_of_its_toolset(
    catalogue: Catalogue, sampler: GroupSampler, local_spend: Callable[..., Any]
) -> None:
    group, spend = sampler.group(0, 1), local_spend()
    option = group.toolset.options[0]
    (result,) = execute(catalogue, spend, asked(group, "ask", {"model": option.alias}))
    entry = result.entry
    assert result.error is None and entry.identity == option.identity
    assert entry.charged_nanousd == option.prices.cost_nanousd(entry.usage) > 0
    assert 0.75 * option.latency_s <= entry.service_s <= 1.25 * option.latency_s
    assert spend.budget.committed_nanousd == entry.charged_nanousd
    assert entry.price_sheet == catalogue.price_sheet


def test_the_same_call_has_the_same_outcome(
    catalogue: Catalogue, sampler: GroupSampler, local_spend: Callable[..., Any]
) -> None:
    group = sampler.group(0, 1)
    alias = group.toolset.options[0].alias
    calls = [asked(group, "ask", {"model": alias}, f"c{i}", seed=i // 2) for i in range(10)]
    results = execute(catalogue, local_spend(), *calls)
    outcomes = [(r.text, r.entry.usage, r.entry.service_s) for r in results]
    assert outcomes[::2] == outcomes[1::2] and len(set(outcomes)) == 5


def test_experts_are_right_as_often_as_their_skill_says(
    catalogue: Catalogue, sampler: GroupSampler, local_spend: Callable[..., Any]
) -> None:
    groups = [sampler.group(n, 1) for n in range(400)]
    calls = [
        (group, asked(group, "ask", {"model": option.alias}, f"{n}/{option.alias}"))
        for n, group in enumerate(groups)
        for option in group.toolset.options
        if option.kind == "model"
    ]
    results = execute(catalogue, local_spend(), *(request for _, request in calls))
    right = expected = 0.0
    for (group, request), result in zip(calls, results, strict=True):
        right += score_here(group.task, result.text).correct
        expected += catalogue.models[request.option.identity].skill_at(group.task.family)
    assert abs(right - expected) / len(calls) < 0.03


def test_pure_tools_need_no_recording_and_run_in_a_replay(
    catalogue: Catalogue, sampler: GroupSampler, local_spend: Callable[..., Any], tmp_path: Path
) -> None:
    group, tape = with_calculator(sampler), tmp_path / "tape.sqlite"
    calls = [asked(group, "ask", {"model": group.toolset.options[0].alias}, "a", seed=7)]
    calls.append(asked(group, "calculator", {"expression": "6*7"}, "b"))

    async def observed(mode: Mode) -> list[tuple[str, Usage, float, bool]]:
        tools = make_tools(catalogue, mode)
        executor = Executor(catalogue, tools, local_spend(), Cassette(tape, mode))
        results = [await executor.execute(call) for call in calls]
        await executor.close()
        entries = [result.entry for result in results]
        outcomes = zip(results, entries, strict=True)
        return [(r.text, e.usage, e.service_s, e.replayed) for r, e in outcomes]

    live = asyncio.run(observed(Mode.RECORD))
    assert asyncio.run(observed(Mode.REPLAY_OR_FAIL)) == live
    assert not any(replayed for *_, replayed in live)
    with sqlite3.connect(tape) as connection:
        assert connection.execute("SELECT count(*) FROM calls").fetchone() == (0,)


def with_calculator(sampler: GroupSampler) -> GroupSpec:
    groups = (sampler.group(n, 1) for n in range(50))
    return next(group for group in groups if group.toolset.option("calculator"))


def test_the_calculator_computes(
    catalogue: Catalogue, sampler: GroupSampler, local_spend: Callable[..., Any]
) -> None:
    groups = {group.toolset.seed: group for group in (sampler.group(n, 1) for n in range(30))}
    sampled = {g.toolset.seed: g.toolset.option("calculator") for g in groups.values()}
    options = {seed: option for seed, option in sampled.items() if option is not None}
    calls = [asked(groups[s], "calculator", {"expression": "6*7"}, f"c{s}") for s in options]
    results = execute(catalogue, local_spend(), *calls)
    assert {result.text for result in results} == {"42"}
    latencies = [option.latency_s for option in options.values()]
    assert [result.entry.service_s for result in results] == latencies
    assert len(set(latencies)) == 3  # one for each factor of the sample


@pytest.mark.parametrize(
    ("name", "arguments", "kind"),
    [
        ("ask", {"model": "nobody"}, FaultKind.UNKNOWN_TOOL),
        ("ask", {"model": "calculator"}, FaultKind.UNKNOWN_TOOL),
        ("ask", {}, FaultKind.MISSING_ARGUMENT),
        ("ask", {"model": 3}, FaultKind.WRONG_TYPE),
        ("ask", {"model": "nova", "effort": "high"}, FaultKind.EXTRA_ARGUMENT),
        ("rm", {"path": "/"}, FaultKind.UNKNOWN_TOOL),
        ("nova", {}, FaultKind.UNKNOWN_TOOL),
        ("calculator", {"expression": True}, FaultKind.WRONG_TYPE),
    ],
)
def test_a_call_that_is_wrong_in_itself_never_reaches_a_tool(
    sampler: GroupSampler, name: str, arguments: dict[str, Any], kind: FaultKind
) -> None:
    with pytest.raises(Fault) as caught:
        resolve(with_calculator(sampler).toolset, name, arguments)
    assert caught.value.kind is kind and kind.is_invalid_call


def test_what_a_tool_cannot_do_is_an_observation_that_names_it_and_is_free(
    catalogue: Catalogue, sampler: GroupSampler, local_spend: Callable[..., Any]
) -> None:
    call = asked(with_calculator(sampler), "calculator", {"expression": "import os"})
    (result,) = execute(catalogue, local_spend(), call)
    assert result.text.startswith("error: ")
    assert (result.error, result.entry.error) == ("bad_input", "bad_input")
    assert result.entry.charged_nanousd == 0


class Doing:
    """Runs a given function once per call."""

    def __init__(self, work: Callable[[], Any]):
        self.work, self.calls = work, 0

    async def call(self, request: ToolRequest) -> Reply:
        self.calls += 1
        made = self.work()
        return await made if asyncio.iscoroutine(made) else made

    async def close(self) -> None:
        pass


def run_one(
    entry: Entry,
    request: ToolRequest,
    spend: Any,
    work: Callable[[], Any],
    cassette: Cassette | None = None,
) -> ToolResult:
    async def main() -> ToolResult:
        catalogue = Catalogue({entry.name: entry}, "prices")
        executor = Executor(catalogue, {entry.name: Doing(work)}, spend, cassette)
        return await executor.execute(request)

    return asyncio.run(main())


def spent(spend: Any) -> int:
    """Returns the sum over all entries, which must equal what the budget holds."""
    total = sum(totals.charged_nanousd for totals in spend.ledger.by_identity.values())
    assert spend.budget.committed_nanousd == total
    return total


def broken() -> Reply:
    raise KeyError("a bug")


def test_a_bug_of_a_tool_is_an_observation_and_is_charged_at_the_most(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: Callable[..., Any],
) -> None:
    entry, spend = make_entry(prices=TOKENS), local_spend()
    result = run_one(entry, make_request(entry), spend, broken)
    assert result.text == "error: tool broke; use another"
    assert result.error == FaultKind.CRASHED.value
    assert spend.ledger.faults == {"crashed": 1}
    assert spent(spend) == result.entry.charged_nanousd == MOST


def test_usage_that_cannot_be_is_charged_at_the_most(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: Callable[..., Any],
) -> None:
    entry, spend = make_entry(prices=TOKENS), local_spend()
    result = run_one(entry, make_request(entry), spend, lambda: Reply("ok", Usage(1, 2)))
    assert result.error == FaultKind.CRASHED.value and spent(spend) == MOST


def test_a_tool_that_hangs_is_cut_off_at_its_deadline(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: Callable[..., Any],
) -> None:
    entry, spend = make_entry(prices=TOKENS, deadline_s=0.05), local_spend()
    result = run_one(entry, make_request(entry), spend, lambda: asyncio.Event().wait())
    assert result.text == "error: no answer within 0.05 s"
    assert result.error == FaultKind.TIMEOUT.value and spent(spend) == MOST


def test_a_call_that_a_limit_holds_until_its_deadline_waited_and_was_not_served(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: Callable[..., Any],
) -> None:
    entry, spend = make_entry(deadline_s=0.05, concurrency=1), local_spend()

    async def main() -> list[ToolResult]:
        tools = {entry.name: Doing(lambda: asyncio.Event().wait())}
        executor = Executor(Catalogue({entry.name: entry}, "prices"), tools, spend, quota=(1, 2))
        return [await executor.execute(make_request(entry))]

    (result,) = asyncio.run(main())
    assert result.error == FaultKind.TIMEOUT.value and spent(spend) == 0
    assert result.entry.queue_s >= 0.05 and result.entry.service_s == pytest.approx(0, abs=0.001)


def test_a_deadline_during_a_reservation_leaves_nothing_reserved(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: type,
) -> None:
    class Slow(local_spend):
        """Grants at once, and its answer gets lost on the way."""

        async def reserve(self, asked: Reservation) -> str | None:
            assert await super().reserve(asked) is None
            await asyncio.Event().wait()

    entry, spend = make_entry(prices=TOKENS, deadline_s=0.05), Slow()
    result = run_one(entry, make_request(entry), spend, lambda: Reply("ok"))
    assert result.error == FaultKind.TIMEOUT.value
    assert spent(spend) == result.entry.charged_nanousd == 0


def test_a_grant_that_comes_after_the_end_of_its_call_is_refused(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: type,
) -> None:
    class Late(local_spend):
        """Its answer is late; the request arrives later still."""

        asked: Reservation

        async def reserve(self, asked: Reservation) -> str | None:
            self.asked = asked
            raise Fault(FaultKind.UNAVAILABLE, "the spend actor does not answer")

    entry, spend = make_entry(prices=TOKENS), Late()
    result = run_one(entry, make_request(entry), spend, lambda: Reply("ok"))
    assert result.error == FaultKind.UNAVAILABLE.value
    assert spend.accounts.reserve([spend.asked]) == ["this call is over"]
    assert spent(spend) == 0


def test_calls_are_counted_also_where_they_are_free(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: Callable[..., Any],
) -> None:
    entry, spend = make_entry(prices=Prices()), local_spend(SpendLimits(run_calls=2))
    results = [
        run_one(entry, make_request(entry, call_id=f"c{i}"), spend, lambda: Reply("ok"))
        for i in range(3)
    ]
    assert [r.text for r in results] == ["ok", "ok", "error: budget exhausted: 2 calls for the run"]
    assert results[2].error == FaultKind.BUDGET.value and spend.budget.run_refused


def test_output_beyond_all_limits_is_cut_with_a_mark(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: Callable[..., Any],
) -> None:
    entry = make_entry()
    endless = Reply("x" * (MAX_CHARACTERS + 1))
    result = run_one(entry, make_request(entry), local_spend(), lambda: endless)
    assert result.text == "x" * MAX_CHARACTERS + CUT_MARK


def test_a_tools_own_limit_cuts_what_it_says_and_the_line_of_a_fault(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: Callable[..., Any],
    tmp_path: Path,
) -> None:
    def failing() -> Reply:
        raise Fault(FaultKind.BAD_INPUT, "n" * 100)

    entry, tape = make_entry(max_reply_characters=9), tmp_path / "tape.sqlite"
    asked, again = make_request(entry), make_request(entry, {"again": True})
    said = run_one(
        entry, asked, local_spend(), lambda: Reply("x" * 10), Cassette(tape, Mode.RECORD)
    )
    assert said.text == "x" * 9 + CUT_MARK
    assert run_one(entry, again, local_spend(), failing).text == "error: nn" + CUT_MARK
    replayed = run_one(entry, asked, local_spend(), failing, Cassette(tape, Mode.REPLAY))
    assert replayed.text == said.text


def test_an_entry_names_the_sheet_that_its_price_is_from_and_who_did_it(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: Callable[..., Any],
) -> None:
    entry, spend = make_entry(), local_spend()
    request = make_request(entry)
    model = replace(request.option, alias="model-1", identity="nova", kind="model")
    recipe = replace(request.option, price_sheet="cheap@1", choices=(model,))
    entries = [
        run_one(
            entry,
            replace(request, call_id=f"{option.price_sheet}", option=option),
            spend,
            lambda: Reply("ok"),
        ).entry
        for option in (request.option, recipe)
    ]
    assert [(e.price_sheet, e.model) for e in entries] == [("", ""), ("cheap@1", "nova")]


def test_a_replay_is_not_charged_and_says_what_it_would_have_cost(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: Callable[..., Any],
    tmp_path: Path,
) -> None:
    entry = make_entry(prices=TOKENS)
    request = make_request(entry)
    reply = Reply("ok", Usage(10, output_tokens=5), service_s=2.5)
    recorded, replayed = local_spend(), local_spend()
    tape = tmp_path / "tape.sqlite"
    live = run_one(entry, request, recorded, lambda: reply, Cassette(tape, Mode.RECORD))
    dearer = replace(request, option=replace(request.option, prices=TWICE))
    again = run_one(entry, dearer, replayed, broken, Cassette(tape, Mode.REPLAY))
    assert (live.text, spent(recorded)) == ("ok", 15)
    assert (again.text, spent(replayed), again.entry.saved_nanousd) == ("ok", 0, 30)
    assert again.entry.replayed and again.entry.service_s == live.entry.service_s == 2.5


def test_a_recording_holds_the_tokens_of_all_attempts(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: Callable[..., Any],
    tmp_path: Path,
) -> None:
    script: list[Reply | Fault] = [
        Fault(FaultKind.SERVER_ERROR, "no", Usage(30, 20), retry_after_s=0.0),
        Reply("ok", Usage(10, output_tokens=5)),
        Fault(FaultKind.SERVER_ERROR, "no", Usage(3), retry_after_s=0.0),
        Fault(FaultKind.REJECTED, "no", Usage(4)),
    ]

    def scripted() -> Reply:
        step = script.pop(0)
        if isinstance(step, Fault):
            raise step
        return step

    entry, tape = make_entry(prices=TOKENS, retries=1), tmp_path / "tape.sqlite"
    for arguments, usage, cost in (({}, Usage(40, 20, 5), 25), ({"again": 1}, Usage(7), 7)):
        request, spend = make_request(entry, arguments), local_spend()
        live = run_one(entry, request, spend, scripted, Cassette(tape, Mode.RECORD))
        assert (live.entry.usage, spent(spend), live.entry.retries) == (usage, cost, 1)
        again = run_one(entry, request, local_spend(), broken, Cassette(tape, Mode.REPLAY))
        assert (again.entry.usage, again.entry.saved_nanousd) == (usage, cost)
        assert again.entry.cache_hit == live.entry.cache_hit == (usage.cached_tokens > 0)


def test_the_wait_at_the_client_and_in_this_process_is_in_the_queue_seconds(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: Callable[..., Any],
) -> None:
    entry, spend = make_entry(deadline_s=0.05), local_spend()

    async def main() -> list[LedgerEntry]:
        tools = {entry.name: Doing(lambda: asyncio.Event().wait())}
        executor = Executor(Catalogue({entry.name: entry}, "prices"), tools, spend)
        request = replace(make_request(entry), waited_s=40.0)
        return [(await executor.execute(request, waited_s=2.0)).entry]

    (made,) = asyncio.run(main())
    here_s = made.queue_s - 42.0
    assert here_s >= 0 and made.service_s + here_s >= 0.05  # its deadline is no shorter for it


def test_a_replay_that_must_answer_and_cannot_is_entered_and_ends_the_episode(
    make_entry: Callable[..., Entry],
    make_request: Callable[..., ToolRequest],
    local_spend: Callable[..., Any],
    tmp_path: Path,
) -> None:
    entry, spend, tape = make_entry(), local_spend(), tmp_path / "tape.sqlite"
    run_one(entry, make_request(entry), local_spend(), broken, Cassette(tape, Mode.RECORD))
    replay = Cassette(tape, Mode.REPLAY_OR_FAIL)
    with pytest.raises(CassetteError, match="no call of tool"):
        run_one(entry, make_request(entry, {"other": 1}), spend, broken, replay)
    assert spend.ledger.faults == {"not_recorded": 1} and spent(spend) == 0
