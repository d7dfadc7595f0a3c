"""The pool with its real actors."""

import asyncio

import pytest
import ray

from orchestra_ray.catalogue import Catalogue
from orchestra_ray.core.records import ToolRequest, ToolResult
from orchestra_ray.core.states import Failure, FailureKind
from orchestra_ray.tasks.sampler import GroupSampler
from orchestra_ray.tools.actor import ToolExecutor, ToolPool

pytestmark = pytest.mark.usefixtures("ray_cluster")


def requests(sampler: GroupSampler, count: int) -> list[ToolRequest]:
    group = sampler.group(0, 1)
    arguments = {"model": group.draw.offers[0].alias}
    return [
        ToolRequest(f"c{i}", 0, "ask", arguments, group.task, group.draw, i, 0)
        for i in range(count)
    ]


def test_each_caller_gets_its_own_result(catalogue: Catalogue, sampler: GroupSampler) -> None:
    executors = [ToolExecutor.options(num_cpus=0.1).remote(catalogue) for _ in range(2)]

    async def main() -> list[ToolResult | Failure]:
        pool = ToolPool(executors, deadline_s=60)
        return await asyncio.gather(*(pool.call(r) for r in requests(sampler, 40)))

    results = asyncio.run(main())
    assert [r.entry.call_id for r in results if isinstance(r, ToolResult)] == [
        f"c{i}" for i in range(40)
    ]


def test_a_dead_executor_is_a_failure_and_not_a_hang(
    catalogue: Catalogue, sampler: GroupSampler
) -> None:
    executor = ToolExecutor.options(num_cpus=0.1).remote(catalogue)
    ray.get(executor.peak_mib.remote())
    ray.kill(executor)

    async def main() -> ToolResult | Failure:
        return await ToolPool([executor], deadline_s=60).call(requests(sampler, 1)[0])

    result = asyncio.run(main())
    assert isinstance(result, Failure) and result.kind is FailureKind.INFRASTRUCTURE
