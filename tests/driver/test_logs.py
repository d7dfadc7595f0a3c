"""Errors of an actor that are bugs, and the fields of a log in events."""

import asyncio
from typing import cast

import pytest
from ray.exceptions import ActorDiedError, GetTimeoutError, ObjectLostError, RayTaskError

from orchestra_ray.core.faults import Failure, FailureKind
from orchestra_ray.core.process_log import LogTail, ProcessLog, own_log
from orchestra_ray.driver.logs import ActorLogs, failure_fields, is_permanent


class PartFailed(Exception):
    """As raised by a worker whose engine is dead."""

    log = LogTail("/engine.out", ("ValueError: head",), "ValueError: head")


def raised(cause: Exception) -> RayTaskError:
    return RayTaskError("score", "Traceback", cause)


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (raised(KeyError("<think>")), True),
        (raised(TypeError("no")), True),
        (raised(ConnectionError("gone")), False),
        (raised(MemoryError()), False),
        (raised(GetTimeoutError("late")), False),
        (raised(ObjectLostError("00" * 28, None, "x")), False),
        (raised(PartFailed("the engine is gone")), False),
        (ActorDiedError(), False),
        (None, False),
    ],
)
def test_a_bug_in_an_actors_code_is_permanent_and_nothing_else(
    error: BaseException | None, permanent: bool
) -> None:
    assert is_permanent(error) is permanent


async def answered() -> ProcessLog:
    return own_log()


def test_the_log_of_the_part_that_died_comes_before_the_actors_own() -> None:
    for private, lines in ((False, ["ValueError: head"]), (True, None)):
        logs = ActorLogs(private)
        asyncio.run(logs.ask("worker", answered()))
        dead = raised(PartFailed("the engine is gone"))
        fields = failure_fields(logs.failure(FailureKind.ENGINE, "worker", "gone", dead))
        assert fields["log"] == "/engine.out" and fields.get("last_lines") == lines
        assert fields["reason"] == ("ValueError" if private else "ValueError: head")


def test_without_a_log_an_event_has_no_field_for_it() -> None:
    failure = cast(Failure, ActorLogs(False).failure(FailureKind.TOOL, "a", "b"))
    assert failure_fields(failure) == {"failure": "tool", "where": "a", "message": "b"}
