"""A full disk under the cassette, the death of an executor, and the spend accounts afterwards."""

import asyncio
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from orchestra_ray.config.enums import CassetteMode
from orchestra_ray.config.schema import CassetteConfig
from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.records import ToolResult
from orchestra_ray.workers.tools.actor import ToolPool

from .scripts import BadServer
from .worlds import FINE, JSON, Made, World, entry_of, running, world_of

pytestmark = pytest.mark.cpu


def test_on_a_full_disk_under_the_cassette_the_calls_go_on_and_it_is_reported_once(
    ray_cluster: str, shared_bad_server: BadServer, make_request: Made, tmp_path: Path
) -> None:
    long = json.dumps({"choices": [{"message": {"content": "x" * 9_000}, "finish_reason": "stop"}]})
    script = {"status": 200, "headers": JSON, "parts": [long]}
    settings = {
        "base_urls": [shared_bad_server.url],
        "model": "m",
        "extra_body": {"script": script},
    }
    entry = entry_of("model", "endpoint", settings)
    tape = CassetteConfig(CassetteMode.RECORD, str(tmp_path / "tape"))

    def no_room(actor: Any) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))

    for world in world_of({"model": entry}, tape):
        ray.get([executor.__ray_call__.remote(no_room) for executor in world.executors])
        requests = [make_request(entry, call_id=f"c{i}", seed=i) for i in range(60)]
        results = world.call(*requests)
        found = [r.text for r in results if isinstance(r, ToolResult) and r.error is None]
        assert found == ["x" * 9_000] * 60
        assert ray.get([executor.drain.remote() for executor in world.executors]) == [0, 0]
        failures = ray.get(world.spend.close_step.remote(1)).failures
        assert 1 <= len(failures) <= 2  # once an executor
        assert {(failure.kind, failure.where) for failure in failures} == {
            (FailureKind.INFRASTRUCTURE, tape.path)
        }
        world.balance()
        assert world.call(make_request(entry, call_id="after", seed=99))[0].text == "x" * 9_000
        assert ray.get(world.spend.close_step.remote(1)).failures == ()


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_dead_executor_costs_its_calls_the_most_and_one_more_try_where_it_may(
    ray_cluster: str, bad_server: BadServer, make_request: Made, idempotent: bool
) -> None:
    script = FINE | {"first": {"end": "hang"}}
    settings = {"base_urls": [bad_server.url], "model": "m", "extra_body": {"script": script}}
    entry = entry_of("model", "endpoint", settings, deadline_s=60.0, idempotent=idempotent)
    request = make_request(entry)

    for world in world_of({"model": entry}):

        async def main(world: World = world) -> ToolResult | Failure:
            pool = ToolPool(world.executors, world.spend, world.catalogue, "dying")
            call = asyncio.create_task(pool.call(request))
            await asyncio.to_thread(bad_server.seen, after="bodies")
            loads = await asyncio.gather(*(e.load.remote() for e in world.executors))
            busy = [running(load) for load in loads].index(1)
            dying = world.executors[busy]
            log = await dying.process_log.remote()
            await dying.__ray_call__.remote(lambda _: print("ValueError: last", file=sys.stderr))
            os.kill(log.pid, signal.SIGKILL)
            result = await call
            assert await pool.drain() == 0
            (found,) = (await world.spend.close_step.remote(1)).failures
            assert found.where == f"tool executor {busy}" and not found.permanent
            assert found.log is not None and found.log.path == log.paths[0] in found.line
            assert found.log.lines[-1] == found.log.reason == "ValueError: last"
            if isinstance(result, Failure):
                assert "last error in its log: ValueError: last" in result.message
            return result

        result = asyncio.run(main())
        ray.get([executor.ready.remote() for executor in world.executors])
        totals, most = world.balance(), world.most(request)
        assert totals["ledger/fault/lost"] == 1
        if idempotent:
            assert isinstance(result, ToolResult) and result.text == "fine"
            assert totals["ledger/calls"] == 2
            charged_nanousd = most + result.entry.charged_nanousd
        else:
            assert isinstance(result, Failure) and result.kind is FailureKind.INFRASTRUCTURE
            assert totals["ledger/calls"] == 1
            charged_nanousd = most
        assert totals["ledger/charged_usd"] == pytest.approx(charged_nanousd / 1e9)
