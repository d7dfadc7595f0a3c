"""When an executor counts as hung, and how often it is ended."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.workers.tools.runtime import liveness
from orchestra_ray.workers.tools.runtime.liveness import PROBES, Incarnations, answer, hangs


def test_what_came_while_the_loop_stood_still_has_come() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        asked: asyncio.Future[str] = loop.create_future()

        def stall() -> None:
            loop.call_soon_threadsafe(asked.set_result, "here")
            time.sleep(0.05)

        loop.call_soon(stall)
        assert await answer(asked, 0.01) == "here"
        with pytest.raises(TimeoutError):
            await answer(loop.create_future(), 0.01)

    asyncio.run(main())


@pytest.mark.parametrize("answered", [*range(PROBES), None])
def test_one_answer_in_time_is_life(monkeypatch: pytest.MonkeyPatch, answered: int | None) -> None:
    monkeypatch.setattr(liveness, "PROBE_S", 0.01)
    asked = 0

    def ask() -> asyncio.Future[object]:
        nonlocal asked
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if asked == answered:
            future.set_result(None)
        asked += 1
        return future

    assert asyncio.run(hangs(ask)) == (answered is None)
    assert asked == (PROBES if answered is None else answered + 1)


@given(st.lists(st.tuples(st.sampled_from(["begin", "end"]), st.integers(0, 3))))
def test_a_life_is_ended_once_and_only_while_it_is_there(events: list[tuple[str, int]]) -> None:
    lives, ended, there = Incarnations(), set(), None
    for event, incarnation in events:
        if event == "begin":
            there, ended = incarnation, ended - {incarnation}
            lives.begin("x", f"{incarnation}")
        elif lives.end("x", f"{incarnation}"):
            assert incarnation not in ended and there in (incarnation, None)
            there = incarnation
            ended.add(incarnation)
        else:
            assert incarnation in ended or there != incarnation


def test_each_executor_has_lives_of_its_own() -> None:
    lives = Incarnations()
    assert lives.end("x", "1") and lives.end("y", "1")
    assert not lives.end("x", "1") and not lives.end("x", "2")
    lives.begin("x", "2")
    assert not lives.end("x", "1") and lives.end("x", "2")
