"""What bad functions do to their own call, and to no other."""

import asyncio
from pathlib import Path

import pytest

from orchestra_ray.core.faults import FaultKind
from orchestra_ray.workers.tools.builtin.function import FunctionLimits, FunctionTool

from .hosted import Held, Open, Shared, fault, gone, text, warm


@pytest.mark.parametrize(
    ("what", "kind", "line"),
    [
        ("exit", FaultKind.SERVER_ERROR, "the function's process ended: exit code 3"),
        (
            "last words",
            FaultKind.SERVER_ERROR,
            "the function's process ended: exit code 3; its last error: OSError: no licence",
        ),
        (
            "segfault",
            FaultKind.SERVER_ERROR,
            "the function's process ended: SIGSEGV; its last error: Fatal Python error: Segment",
        ),
        ("kill", FaultKind.SERVER_ERROR, "the function's process ended: SIGKILL"),
        ("close everything", FaultKind.SERVER_ERROR, "the function's process ended: SIGKILL"),
        ("raise", FaultKind.SERVER_ERROR, "KeyError: 'first\\nsecond'"),
        ("sys.exit", FaultKind.SERVER_ERROR, "SystemExit: 5"),
        ("interrupt", FaultKind.SERVER_ERROR, "KeyboardInterrupt"),
        ("recursion", FaultKind.SERVER_ERROR, "RecursionError: maximum recursion depth"),
        ("eat memory", FaultKind.SERVER_ERROR, "MemoryError"),
        ("long error", FaultKind.SERVER_ERROR, "ValueError: xxx"),
        ("no JSON", FaultKind.BAD_REPLY, "object is not JSON: "),
        ("garbage", FaultKind.BAD_REPLY, "answered with 18446744073709551615 bytes, too many"),
    ],
)
def test_what_a_function_does_harms_only_its_call(
    act: Shared, what: str, kind: FaultKind, line: str
) -> None:
    assert act.warm(what="nothing bad") == "fine"
    found = act.fault(what=what)
    assert found.kind is kind and str(found).startswith(line)
    assert len(str(found)) < 600 and "\n" not in str(found)
    assert act.warm(what="nothing bad") == "fine"


@pytest.mark.parametrize("what", ["hang", "hold the interpreter"])
def test_a_function_that_does_not_end_is_given_up_and_the_next_call_works(
    opened: Open, what: str
) -> None:
    async def run() -> None:
        async with opened("act", deadline_s=1.0) as tool:
            assert await warm(tool, what="nothing bad") == "fine"
            found = await fault(tool, what=what)
            assert (found.kind, str(found)) == (FaultKind.TIMEOUT, "no answer within 1 s")
            assert await warm(tool, what="nothing bad") == "fine"

    asyncio.run(run())


def test_a_gigabyte_of_answer_is_refused_and_of_output_dropped(opened: Open) -> None:
    async def run() -> None:
        async with opened("act") as tool:
            found = await fault(tool, what="gigabyte")
            assert found.kind is FaultKind.BAD_REPLY
            assert str(found) == "answered with 1000000000 characters, too many"
            assert await text(tool, what="shout a gigabyte") == "printed"

    asyncio.run(run())


def test_waiting_for_a_busy_process_has_a_deadline_and_harms_nobody(opened: Open) -> None:
    async def run() -> None:
        async with opened("slow", deadline_s=4.0) as tool:
            first_pid = await warm(tool, seconds=0)
            busy = asyncio.create_task(text(tool, seconds=1))
            await asyncio.sleep(0)
            waiting = [asyncio.create_task(fault(tool, seconds=4)) for _ in range(3)]
            assert await busy == first_pid
            assert {one.kind for one in await asyncio.gather(*waiting)} == {FaultKind.TIMEOUT}

    asyncio.run(run())


def test_a_cancelled_call_ends_its_process_and_the_next_call_works(
    opened: Open, held: Held
) -> None:
    async def run() -> tuple[int, int]:
        async with opened("hold") as tool:
            pids = []
            for _ in range(2):
                call = asyncio.create_task(text(tool, told=held.path))
                pids.append(await held.began())
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                assert await asyncio.to_thread(gone, pids[-1])
            return pids[0], pids[1]

    first, second = asyncio.run(run())
    assert first != second


def test_a_start_longer_than_a_calls_deadline_is_not_lost(folder: Path) -> None:
    source = "import time\ntime.sleep(1.5)\ndef f() -> str: return 'at last'\n"
    (folder / "heavy.py").write_text(source)

    async def run() -> str:
        tool = FunctionTool("heavy:f", FunctionLimits(deadline_s=0.4), [folder])
        try:
            first = await fault(tool)
            assert first.kind is FaultKind.TIMEOUT
            return await warm(tool)
        finally:
            await tool.close()

    assert asyncio.run(run()) == "at last"


def test_a_module_that_breaks_later_is_unavailable_and_mends(folder: Path) -> None:
    module = folder / "changing.py"
    good = "import os\ndef f(leave: bool) -> str:\n    if leave: os._exit(1)\n    return 'good'\n"
    module.write_text(good)

    async def run() -> None:
        tool = FunctionTool("changing:f", python_path=[folder])
        try:
            assert await text(tool, leave=False) == "good"
            module.write_text("raise OSError('disk')")
            assert (await fault(tool, leave=True)).kind is FaultKind.SERVER_ERROR
            found = await fault(tool, leave=False)
            assert found.kind is FaultKind.UNAVAILABLE and "OSError: disk" in str(found)
            module.write_text(good + "# mended\n")
            assert await text(tool, leave=False) == "good"
        finally:
            await tool.close()

    asyncio.run(run())
