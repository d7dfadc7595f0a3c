"""The limiter of a tool, with limits that change meanwhile."""

import asyncio
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.data.catalogue import Entry
from orchestra_ray.spend.local import LocalSpendClient
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.runtime.attempts import Bill, Service
from orchestra_ray.workers.tools.runtime.limiter import Limiter

STEPS = st.lists(
    st.one_of(
        st.just("enter"),
        st.tuples(st.just("leave"), st.integers(0, 5)),
        st.tuples(st.just("give up"), st.integers(0, 5)),
        st.tuples(st.just("limit"), st.one_of(st.none(), st.integers(0, 4))),
    ),
    max_size=60,
)


class Visitor:
    def __init__(self, limiter: Limiter):
        self.inside, self.leaves = False, asyncio.Event()
        self.task = asyncio.create_task(self._visit(limiter))

    async def _visit(self, limiter: Limiter) -> None:
        async with limiter:
            self.inside = True
            try:
                await self.leaves.wait()
            finally:
                self.inside = False


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@given(STEPS)
def test_none_is_admitted_beyond_the_limit_and_none_waits_below_it(steps: list) -> None:
    async def main() -> None:
        most: int | None = 2
        limiter, visitors = Limiter(most), []
        for step in steps:
            before = limiter.inside
            if step == "enter":
                visitors.append(Visitor(limiter))
            elif step[0] == "limit":
                most = step[1]
                limiter.limit(most, None)
            elif visitors:
                visitor = visitors[step[1] % len(visitors)]
                visitor.leaves.set() if step[0] == "leave" else visitor.task.cancel()
            await settle()
            visitors = [visitor for visitor in visitors if not visitor.task.done()]
            inside = [visitor.inside for visitor in visitors]
            assert limiter.inside == sum(inside) and limiter.waiting == len(inside) - sum(inside)
            assert most is None or limiter.inside <= max(most, before)
            assert limiter.waiting == 0 or most is not None and limiter.inside >= most
        for visitor in visitors:
            visitor.task.cancel()
        await settle()
        assert (limiter.inside, limiter.waiting) == (0, 0)

    asyncio.run(main())


def test_attempts_are_admitted_in_order() -> None:
    async def main() -> None:
        limiter, order = Limiter(1), []

        async def visit(number: int) -> None:
            async with limiter:
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(visit(number) for number in range(20)))
        assert order == list(range(20))

    asyncio.run(main())


def test_a_smaller_limit_is_kept_once_enough_have_left() -> None:
    async def main() -> None:
        limiter = Limiter(3)
        visitors = [Visitor(limiter) for _ in range(4)]
        await settle()
        limiter.limit(1, None)
        kept = asyncio.create_task(limiter.kept())
        for visitor, done in zip(visitors, (False, True), strict=False):
            visitor.leaves.set()
            await settle()
            assert kept.done() == done
        assert (limiter.inside, limiter.waiting) == (1, 1)
        for visitor in visitors:
            visitor.leaves.set()
        await asyncio.gather(*(visitor.task for visitor in visitors))

    asyncio.run(main())


def test_a_rate_that_changes_holds_for_those_that_wait_already() -> None:
    async def main() -> None:
        limiter, entered_s = Limiter(None, 1.0), []
        loop = asyncio.get_running_loop()

        async def visit() -> None:
            async with limiter:
                entered_s.append(loop.time())

        visits = [asyncio.create_task(visit()) for _ in range(4)]
        await settle()
        assert len(entered_s) == 1 and limiter.waiting == 3
        limiter.limit(None, 50.0)
        await asyncio.wait_for(asyncio.gather(*visits), 10)
        assert all(b - a >= 0.02 for a, b in zip(entered_s, entered_s[1:], strict=False))
        assert limiter.inside == 0

    asyncio.run(main())


def test_a_restarted_service_starts_nothing_before_its_rate_allows_it(
    make_entry: Callable[..., Entry], make_request: Callable[..., ToolRequest]
) -> None:
    async def main() -> None:
        entry, loop = make_entry(prices=Prices(), calls_per_s=20.0), asyncio.get_running_loop()
        made_s, free = loop.time(), LocalSpendClient()
        services = [Service(entry, Idle(), (0, 2), restarted=late) for late in (False, True)]
        calls = [asyncio.create_task(s.call(make_request(entry), free, Bill())) for s in services]
        await settle()
        assert calls[0].done()
        await calls[1]
        assert loop.time() - made_s >= 0.1  # its part of the rate is 10 a second

    asyncio.run(main())


class Idle:
    async def call(self, request: object) -> Reply:
        return Reply("")

    async def close(self) -> None:
        pass


@given(st.integers(1, 12), st.lists(st.booleans(), max_size=12))
def test_quotas_that_change_one_after_the_other_never_sum_to_more_than_the_limit(
    make_entry: Callable[..., Entry], limit: int, grows: list[bool]
) -> None:
    async def main() -> None:
        entry = make_entry(concurrency=limit, calls_per_s=100.0)
        services = [Service(entry, Idle(), (0, 1))]

        def check() -> None:
            limiters = [service.limiter for service in services]
            assert sum(limiter.most or 0 for limiter in limiters) <= limit
            assert sum(limiter.per_s or 0 for limiter in limiters if limiter.most) <= 100.0 + 1e-9

        for grow in grows:
            if grow:
                services.append(Service(entry, Idle(), None))
            elif len(services) > 1:
                services.pop(len(grows) % len(services))
            for index, service in enumerate(services):
                service.set_quota((index, len(services)))
                check()
        assert sum(service.limiter.most or 0 for service in services) == limit

    asyncio.run(main())
