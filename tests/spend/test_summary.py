"""The sums of a ledger: the same total however it is grouped, every figure in its place."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import Caller, LedgerEntry
from orchestra_ray.spend.ledger import table
from orchestra_ray.spend.summary import AMOUNTS, By, Line, shortened, spend_summary, total

NOVA = LedgerEntry(
    call_id="e/0/1",
    caller=Caller(3, "g", "g/0", 2),
    identity="nova",
    alias="model-1",
    kind="model",
    price_sheet="prices@1",
    usage=Usage(100, 40, 30, 20, 1),
    charged_nanousd=7,
    saved_nanousd=4,
    queue_s=0.25,
    service_s=1.5,
    retries=2,
    hedges=1,
    error="timeout",
)
CODE = replace(
    NOVA, identity="code", alias="code-1", kind="tool", charged_nanousd=5, error=None, hedges=0
)
POLICY = replace(NOVA, identity="policy", alias="policy", kind="policy", error=None)
AMOUNT = st.integers(0, 10**12)
entries = st.builds(
    replace,
    st.sampled_from([NOVA, CODE, POLICY]),
    caller=st.builds(Caller, st.integers(0, 12), st.just("g"), st.sampled_from("efg"), st.just(0)),
    identity=st.sampled_from(["a", "b", "policy"]),
    usage=st.builds(Usage, AMOUNT, AMOUNT, AMOUNT, AMOUNT),
    charged_nanousd=AMOUNT,
    saved_nanousd=AMOUNT,
    retries=st.integers(0, 3),
    hedges=st.integers(0, 3),
    cache_hit=st.booleans(),
    replayed=st.booleans(),
    error=st.none() | st.sampled_from(["timeout", "lost"]),
)


def by_hand(rows: list[LedgerEntry]) -> dict[str, Any]:
    return {
        "calls": len(rows),
        "input_tokens": sum(e.usage.input_tokens for e in rows),
        "cached_tokens": sum(e.usage.cached_tokens for e in rows),
        "output_tokens": sum(e.usage.output_tokens for e in rows),
        "reasoning_tokens": sum(e.usage.reasoning_tokens for e in rows),
        "charged_nanousd": sum(e.charged_nanousd for e in rows),
        "saved_nanousd": sum(e.saved_nanousd for e in rows),
        "retries": sum(e.retries for e in rows),
        "hedges": sum(e.hedges for e in rows),
        "cache_hits": sum(e.cache_hit for e in rows),
        "replayed": sum(e.replayed for e in rows),
        "faults": sum(e.error is not None for e in rows),
    }


@given(st.lists(entries, min_size=1, max_size=40), st.sampled_from(By), st.integers(1, 6))
def test_lines_sum_to_the_same_total_however_they_are_grouped_and_cut(
    rows: list[LedgerEntry], by: By, most: int
) -> None:
    lines = spend_summary(table("run", rows), by)
    shown = shortened(lines, most)
    assert len(shown) <= most or len(shown) == len(lines)
    for some in (lines, shown):
        whole, expected = total(some), by_hand(rows)
        assert {name: getattr(whole, name) for name in expected} == expected
        assert all(type(getattr(whole, name)) is int for name in expected)


@given(st.lists(entries, min_size=1, max_size=40))
def test_a_line_holds_the_sums_of_its_own_entries(rows: list[LedgerEntry]) -> None:
    lines = {line.name: line for line in spend_summary(table("run", rows), By.MODEL)}
    assert lines.keys() == {entry.identity for entry in rows}
    for name, line in lines.items():
        expected = by_hand([entry for entry in rows if entry.identity == name])
        assert {amount: getattr(line, amount) for amount in expected} == expected


def test_every_figure_stands_in_its_place() -> None:
    rows = [NOVA, replace(NOVA, replayed=True), replace(NOVA, usage=Usage(), cache_hit=False)]
    assert spend_summary(table("run", rows), By.MODEL) == [
        Line("nova", 3, 200, 80, 60, 40, 21, 12, 0.75, 4.5, 6, 3, 2, 1, 3)
    ]


@pytest.mark.parametrize(
    ("by", "names"),
    [
        (By.MODEL, ["nova", "policy", "code"]),  # the dearest first
        (By.TOOL, ["ask", "policy", "code"]),
        (By.EPISODE, ["g/0"]),
        (By.ERROR, ["none", "timeout"]),
    ],
)
def test_what_a_line_stands_for(by: By, names: list[str]) -> None:
    assert [line.name for line in spend_summary(table("run", [NOVA, CODE, POLICY]), by)] == names


def test_steps_stand_in_their_order_and_measurements_first() -> None:
    rows = [replace(NOVA, caller=Caller(step, "g", "e", 0)) for step in (10, 9, 0, 2, 9)]
    lines = spend_summary(table("run", rows), By.STEP)
    assert [(line.name, line.calls) for line in lines] == [
        ("measured", 1),
        ("2", 1),
        ("9", 2),
        ("10", 1),
    ]


def test_the_model_behind_a_recipe_is_the_one_that_is_named() -> None:
    rows = table("run", [replace(CODE, model="nova"), NOVA])
    assert [line.name for line in spend_summary(rows, By.MODEL)] == ["nova"]
    assert {line.name for line in spend_summary(rows, By.TOOL)} == {"code", "ask"}


def test_what_is_cut_is_the_cheapest_and_becomes_one_line() -> None:
    rows = [
        replace(NOVA, caller=Caller(step, "g", "e", 0), charged_nanousd=charged)
        for step, charged in ((1, 5), (2, 50), (3, 1), (4, 40))
    ]
    lines = shortened(spend_summary(table("run", rows), By.STEP), 3)
    assert [(line.name, line.charged_nanousd) for line in lines] == [
        ("2", 50),
        ("4", 40),
        ("2 others", 6),
    ]


def test_amounts_are_all_of_a_line_but_its_name() -> None:
    assert set(AMOUNTS) == set(Line.__dataclass_fields__) - {"name"}
