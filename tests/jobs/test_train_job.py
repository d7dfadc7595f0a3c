"""`jobs/train.py` as a submitted job, on a head with its dashboard and a token of its own."""

import asyncio
import json
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from ray.job_submission import JobStatus, JobSubmissionClient

REPOSITORY = Path(__file__).parents[2]
START_DEADLINE_S = 90.0
JOB_DEADLINE_S = 300.0
STOP_DEADLINE_S = 60.0

# Of a policy that has learned enough to be trained: a run that trains nothing fails.
THREE_TINY_STEPS = (
    "training.steps=3",
    "evaluation.tasks=0",
    "model.tiny.warmup_steps=60",
    "model.tiny.warmup_batch=16",
    "tracking.wandb=disabled",
    "tracking.progress=false",
)


@pytest.mark.cpu
@pytest.mark.slow
@pytest.mark.timeout(START_DEADLINE_S + JOB_DEADLINE_S + STOP_DEADLINE_S)
def test_a_submitted_job_succeeds_and_leaves_a_line_of_metrics_a_step(tmp_path: Path) -> None:
    status, log = asyncio.run(
        _submit_and_follow(
            "python jobs/train.py --config configs/quickstart.yaml name=job "
            f"runs_dir={tmp_path}/runs model.cache_dir={tmp_path}/cache "
            + " ".join(THREE_TINY_STEPS)
        )
    )

    assert status == JobStatus.SUCCEEDED, log[-5_000:]
    lines = (tmp_path / "runs" / "job" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == list(range(steps[0], steps[0] + 3))


async def _submit_and_follow(entrypoint: str) -> tuple[JobStatus, str]:
    """The job's last status and all that it printed."""
    printed: list[str] = []
    async with _ray_head() as client:
        job = client.submit_job(entrypoint=entrypoint, runtime_env={"working_dir": str(REPOSITORY)})
        try:
            async with asyncio.timeout(JOB_DEADLINE_S):
                async for lines in client.tail_job_logs(job):
                    printed.append(lines)
        except TimeoutError:
            pytest.fail(f"the job ran past {JOB_DEADLINE_S} s:\n{''.join(printed)[-5_000:]}")
        return client.get_job_status(job), "".join(printed)


@asynccontextmanager
async def _ray_head() -> AsyncIterator[JobSubmissionClient]:
    """A head on free ports, closed to all who lack its token, and a client that has it."""
    token = secrets.token_hex(32)
    gcs, dashboard, agent, ray_client = _free_ports(4)
    commands = Path(sys.executable).parent  # holds `ray`, and the `python` of the entrypoint
    # Not under pytest's folder: paths of Unix sockets may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="ray-") as temp_dir:
        head = await asyncio.create_subprocess_exec(
            commands / "ray",
            *("start", "--head", "--block", "--num-cpus=2", "--object-store-memory=300000000"),
            *(f"--port={gcs}", f"--ray-client-server-port={ray_client}"),
            *(f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"),
            *("--dashboard-host=127.0.0.1", f"--temp-dir={temp_dir}"),
            env=os.environ
            | {
                "PATH": f"{commands}:{os.environ['PATH']}",
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": token,
                "RAY_USAGE_STATS_ENABLED": "0",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            await _runtime_started(head)
            yield JobSubmissionClient(
                f"http://127.0.0.1:{dashboard}", headers={"Authorization": f"Bearer {token}"}
            )
        finally:
            await _end(head)


async def _runtime_started(head: asyncio.subprocess.Process) -> None:
    assert head.stdout is not None
    printed = []
    async with asyncio.timeout(START_DEADLINE_S):
        async for line in head.stdout:
            printed.append(line.decode())
            if "Ray runtime started" in printed[-1]:
                return
    pytest.fail("the head ended before its runtime had started:\n" + "".join(printed))


async def _end(head: asyncio.subprocess.Process) -> None:
    """Ray ends its processes on SIGTERM; whatever is left of the group after that is killed."""
    if head.returncode is None:
        head.terminate()
    try:
        async with asyncio.timeout(STOP_DEADLINE_S):
            await head.communicate()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(head.pid, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
