"""When an executor counts as hung."""

import asyncio
import time

import pytest

from orchestra_ray.workers.tools.runtime import liveness
from orchestra_ray.workers.tools.runtime.liveness import PROBES, answer, hangs


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
def test_one_answer_in_time_suffices(monkeypatch: pytest.MonkeyPatch, answered: int | None) -> None:
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
