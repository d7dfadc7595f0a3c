"""Calls of real functions in real processes."""

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.core.faults import FaultKind

from .hosted import Open, Shared, text


@pytest.mark.parametrize(
    ("name", "arguments", "answer"),
    [
        ("convert", {"amount": 10, "unit": "km"}, "6.21"),
        ("convert", {"amount": 1.0, "unit": "mile", "digits": None, "schema": True}, "2 schema"),
        ("add", {"a": 2}, "3"),
        ("length", {"point": {"x": 3.0, "y": 4.0}}, "5.0"),
        ("find", {"when": "2025-01-31"}, '{"when":"2025-01-31","names":["a"]}'),
        ("nothing", {}, "null"),
        ("greet", {"name": "you"}, "hello you"),
        ("echo", {"value": {"a": [1, None, True]}}, '{"a":[1,null,true]}'),
    ],
)
def test_an_answer_is_text_or_becomes_json(
    opened: Open, name: str, arguments: dict[str, Any], answer: str
) -> None:
    async def run() -> str:
        async with opened(name) as tool:
            return await text(tool, **arguments)

    assert asyncio.run(run()) == answer


PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text()
JSON = st.recursive(PLAIN, lambda one: st.lists(one) | st.dictionaries(st.text(), one))


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_any_json_goes_in_and_comes_out(echo: Shared, value: Any) -> None:
    answer = echo.text(value=value)
    assert (answer if isinstance(value, str) else json.loads(answer)) == value


@pytest.mark.parametrize(
    ("arguments", "kind", "line"),
    [
        ({"unit": "km"}, FaultKind.MISSING_ARGUMENT, "argument amount is missing"),
        ({"amount": 1, "unit": "km", "x": 1}, FaultKind.EXTRA_ARGUMENT, "there is no argument x"),
        ({"amount": "1", "unit": "km"}, FaultKind.WRONG_TYPE, "argument amount: Input should be"),
        (
            {"amount": 1, "unit": "foot"},
            FaultKind.WRONG_TYPE,
            "argument unit: Input should be 'km'",
        ),
        ({"amount": 1, "unit": "\ud800"}, FaultKind.BAD_JSON, "Invalid JSON"),
    ],
)
def test_wrong_arguments_are_named(
    convert: Shared, arguments: dict[str, Any], kind: FaultKind, line: str
) -> None:
    found = convert.fault(**arguments)
    assert found.kind is kind and str(found).startswith(line)
    assert convert.text(amount=1, unit="km") == "0.62"


def test_calls_share_a_process_and_one_event_loop(opened: Open) -> None:
    async def run() -> list[str]:
        async with opened("count") as counter, opened("greet") as greeter:
            greetings = await asyncio.gather(*(text(greeter, name=str(n)) for n in range(5)))
            assert greetings == [f"hello {n}" for n in range(5)]
            return [await text(counter) for _ in range(5)]

    assert asyncio.run(run()) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("processes", [1, 3])
def test_calls_in_flight_use_at_most_the_processes_allowed(opened: Open, processes: int) -> None:
    async def run() -> set[str]:
        async with opened("slow", processes=processes) as tool:
            return set(await asyncio.gather(*(text(tool, seconds=0.1) for _ in range(12))))

    assert len(asyncio.run(run())) == processes


def test_what_a_function_prints_or_reads_is_not_the_protocol(opened: Open) -> None:
    async def run() -> list[str]:
        async with opened("shout") as tool:
            return [await text(tool, text="{}\n\0") for _ in range(3)]

    assert asyncio.run(run()) == ["said ''"] * 3


def test_a_program_that_a_function_starts_does_not_hold_the_channel(opened: Open) -> None:
    async def run() -> str:
        async with opened("inherited") as tool:
            return await text(tool)

    files = asyncio.run(run())
    assert "/dev/null" in files and "socket:" not in files


def test_secrets_of_the_environment_reach_the_function(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVICE_KEY", "sesame")

    async def run() -> str:
        async with opened("stored") as tool:
            return await text(tool, key="MY_SERVICE_KEY")

    assert asyncio.run(run()) == "sesame"
