"""Many processes at one cassette, their deaths, and disks that are full or slow."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.core.money import Usage
from orchestra_ray.workers.tools.replay import store as cassette_store
from orchestra_ray.workers.tools.replay.cassette import Cassette, Mode, canonical_digest, key_of
from orchestra_ray.workers.tools.replay.store import CassetteStore, Key, Recorded

from ..tapes import Oracle, ask, in_cassette, played, rows, seen

REPOSITORY = Path(__file__).parents[4]
WRITER = """
import asyncio, json, sys
from pathlib import Path
from orchestra_ray.workers.tools.replay.cassette import Cassette, Mode, canonical_digest
from orchestra_ray.workers.tools.replay.store import Key, Recorded
from orchestra_ray.core.money import Usage

path, name, calls, bytes_each = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

async def write():
    async with Cassette(path, Mode.RECORD) as cassette:
        for n in range(calls):
            for who in ("all", name):
                key = Key("tool", "1", canonical_digest([who, n]), n)
                text = f"{name} {n} " + "x" * bytes_each
                mine = Recorded(text, Usage(), 1.0, None, 0.0)
                stands = await cassette.store(key, mine)
                print(json.dumps([who, n, stands.text]), flush=True)
        print(json.dumps(cassette.failure and cassette.failure.message), flush=True)

asyncio.run(write())
"""


def writer(
    path: Path, name: str, calls: int, bytes_each: int, prefix: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, "-c", WRITER, str(path), name, str(calls), str(bytes_each)]
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environ)


def finished(process: subprocess.Popen[str]) -> tuple[list[Any], str]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()], err


def stored(path: Path, who: str, n: int) -> str | None:
    async def find() -> Recorded | None:
        async with Cassette(path, Mode.REPLAY) as cassette:
            return await cassette.find(Key("tool", "1", canonical_digest([who, n]), n))

    found = asyncio.run(find())
    return found and found.text


def test_many_processes_write_one_new_file_and_agree(tmp_path: Path) -> None:
    path, names, calls = tmp_path / "deep" / "c", [f"writer{n}" for n in range(5)], 40
    outputs = [finished(one)[0] for one in [writer(path, name, calls, 100) for name in names]]
    assert [output.pop() for output in outputs] == [None] * 5  # no failure
    shared = [[line for line in output if line[0] == "all"] for output in outputs]
    assert all(one == shared[0] for one in shared)
    assert rows(path) == calls * (len(names) + 1)
    assert [file.name for file in path.parent.iterdir()] == ["c"]
    for name, output in zip(names, outputs, strict=True):
        assert stored(path, name, calls - 1) == output[-1][2]


def test_many_openers_of_a_new_file_all_get_one_file(tmp_path: Path) -> None:
    path, together = tmp_path / "c", threading.Barrier(8)

    def write(n: int) -> None:
        together.wait(20)
        with closing(CassetteStore(path, writable=True)) as store:
            key = Key("tool", "1", canonical_digest(n), n)
            store.put(key, Recorded("x", Usage(), 1.0, None, 0.0))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert rows(path) == 8
    assert [file.name for file in tmp_path.iterdir()] == ["c"]


def test_a_killed_writer_loses_nothing_that_it_had_stored(tmp_path: Path) -> None:
    path = tmp_path / "c"
    process = writer(path, "victim", 10**6, 3000)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(301)]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.communicate(timeout=60)
    told = [json.loads(line) for line in lines if line.endswith("]\n")]
    assert len(told) >= 300 and process.returncode == -signal.SIGKILL
    with closing(CassetteStore(path, writable=False)) as store:
        for who, n, said in told:
            found = store.exact(Key("tool", "1", canonical_digest([who, n]), n), lasting=False)
            assert found is not None and found.text == said
    assert finished(writer(path, "heir", 5, 10))[0][-1] is None


def full_disk(folder: Path) -> tuple[str, ...]:
    """A command prefix: what follows finds 400 KiB on `folder`; its files are copied to kept/."""
    mount = f'mount -t tmpfs -o size=400k none {folder} && "$@" && cp -r {folder} {folder}/../kept'
    return ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh")


def may_mount() -> bool:
    command = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "x"]
    try:
        return subprocess.run([*command, "/mnt"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not may_mount(), reason="no mounts in user namespaces here")
def test_on_a_full_disk_the_run_goes_on_and_says_so_once(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    lines, warnings = finished(writer(folder / "c", "w", 100, 5000, full_disk(folder)))
    failure, answers = lines.pop(), lines
    assert "full" in failure
    assert len(answers) == 200 and all(said.startswith("w ") for _, _, said in answers)
    assert warnings.count("continuing without recording") == 1
    copy = tmp_path / "kept" / "c"
    assert stored(copy, "all", 0) == answers[0][2] and stored(copy, "all", 99) is None


def test_at_a_file_size_limit_the_run_goes_on_and_says_so_once(tmp_path: Path) -> None:
    limit = ("prlimit", "--fsize=300000", "--")
    lines, warnings = finished(writer(tmp_path / "c", "w", 100, 5000, limit))
    assert lines.pop() is not None and len(lines) == 200
    assert warnings.count("continuing without recording") == 1
    assert stored(tmp_path / "c", "all", 0) == lines[0][2]


@pytest.mark.skipif(not may_mount(), reason="no mounts in user namespaces here")
def test_a_cassette_in_a_read_only_folder_can_be_replayed(tmp_path: Path) -> None:
    folder = tmp_path / "sealed"
    finished(writer(folder / "c", "w", 3, 10))
    mount = f'mount --bind -o ro {folder} {folder} && ! touch {folder}/x 2>/dev/null && "$@"'
    sealed = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    read = f"""
from pathlib import Path
from orchestra_ray.workers.tools.replay.cassette import canonical_digest
from orchestra_ray.workers.tools.replay.store import CassetteStore, Key
store = CassetteStore(Path({str(folder / "c")!r}), writable=False)
print(store.exact(Key("tool", "1", canonical_digest(["all", 2]), 2), lasting=False).text)
"""
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [*sealed, sys.executable, "-c", read]
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert done.stdout.startswith("w 2 "), done.stderr


def test_the_event_loop_runs_on_while_another_process_holds_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c"
    seen(path, Mode.RECORD, Oracle(), [ask()])
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")

    async def work(cassette: Cassette) -> None:
        begun, loop, put = asyncio.Event(), asyncio.get_running_loop(), CassetteStore.put

        def telling(store: CassetteStore, key: Key, recorded: Recorded) -> Recorded:
            loop.call_soon_threadsafe(begun.set)
            return put(store, key, recorded)

        monkeypatch.setattr(CassetteStore, "put", telling)
        recorded = Recorded("x", Usage(), 1.0, None, 0.0)
        storing = asyncio.create_task(cassette.store(key_of(ask(seed=2), "1"), recorded))
        await asyncio.wait_for(begun.wait(), 20)
        assert not storing.done()
        lock.execute("COMMIT")
        await asyncio.wait_for(storing, 20)

    _, cassette = in_cassette(path, Mode.RECORD, work)
    lock.close()
    assert cassette.failure is None and rows(path) == 2


def test_once_a_write_has_failed_nothing_more_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cassette_store, "BUSY_TIMEOUT_S", 0.1)
    path = tmp_path / "c"
    seen(path, Mode.RECORD, Oracle(), [ask()])
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    oracle = Oracle()

    async def work(cassette: Cassette) -> list[str]:
        texts = [(await played(cassette, oracle, ask(seed=2))).text]
        lock.execute("COMMIT")
        texts += [(await played(cassette, oracle, ask(seed=seed))).text for seed in (3, 4, 1)]
        return texts

    texts, cassette = in_cassette(path, Mode.RECORD, work)
    lock.close()
    assert texts == ["answer 1", "answer 2", "answer 3", "answer 1"] and oracle.calls == 3
    assert rows(path) == 1
    assert cassette.failure is not None and "locked" in cassette.failure.message
    assert len(caplog.messages) == 1
