"""Real SQLite files, real processes, a real full disk."""

import asyncio
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.records import Asker, Offer, Task, ToolRequest
from orchestra_ray.tools import cassette_store
from orchestra_ray.tools.cassette import (
    Cassette,
    CassetteError,
    Latencies,
    Mode,
    ReplayedFault,
    canonical_digest,
    key_of,
)
from orchestra_ray.tools.cassette_store import CassetteStore, Key, Recorded
from orchestra_ray.tools.tool import Fault, FaultKind, Reply, Tool

REPOSITORY = Path(__file__).parents[2]
MODEL = Offer("expert 1", "big-model", "model", "good", Prices(1_000, 500, 2_000), 1.0)
SEARCH = Offer("search", "local-search", "tool", "finds", Prices(call_nanousd=500), 0.1)
TASK = Task("t1", "arithmetic", "What is 2 + 2?", {"answer": "4"})
ASKER = Asker(step=1, group_id="g", episode_id="e", turn=0)
PLAYS, CALLS, NOT_RECORDED, ERROR = "plays", "calls", "not recorded", "error"


def ask(seed: int = 1, attempt: int = 0, offer: Offer = MODEL, **arguments: Any) -> ToolRequest:
    return ToolRequest("call", ASKER, offer, arguments, TASK, seed, attempt)


class Oracle:
    """A tool that never says the same thing twice, or fails as it is told."""

    def __init__(self, *outcomes: Reply | Fault):
        self.calls = 0
        self._outcomes = outcomes

    async def call(self, request: ToolRequest) -> Reply:
        self.calls += 1
        if not self._outcomes:
            usage = Usage(input_tokens=self.calls, output_tokens=7)
            return Reply(f"answer {self.calls}", usage, 0.25 * self.calls)
        outcome = self._outcomes[(self.calls - 1) % len(self._outcomes)]
        if isinstance(outcome, Fault):
            raise outcome
        return outcome

    async def close(self) -> None:
        pass


async def played(cassette: Cassette, tool: Tool, request: ToolRequest, version: str = "1") -> Reply:
    return await cassette.play(key_of(request, version), lambda: tool.call(request))


def seen(
    path: Path,
    mode: Mode,
    tool: Tool,
    requests: list[ToolRequest],
    version: str = "1",
    **options: Any,
) -> list[Reply | Fault]:
    """What a policy sees of `requests`, one after the other, with one opening of the cassette."""

    async def run() -> list[Reply | Fault]:
        outcomes: list[Reply | Fault] = []
        async with Cassette(path, mode, **options) as cassette:
            for request in requests:
                try:
                    outcomes.append(await played(cassette, tool, request, version))
                except Fault as fault:
                    outcomes.append(fault)
        return outcomes

    return asyncio.run(run())


def text(outcome: Reply | Fault) -> str:
    return outcome.text if isinstance(outcome, Reply) else str(outcome)


def rows(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*) FROM calls").fetchone()[0]


# Keys


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.text())), st.randoms())
def test_the_order_of_arguments_does_not_matter(
    arguments: dict[str, Any], shuffler: random.Random
) -> None:
    names = list(arguments)
    shuffler.shuffle(names)
    shuffled = {name: arguments[name] for name in names}
    nested = {"outer": [arguments]}, {"outer": [shuffled]}
    assert canonical_digest(nested[0]) == canonical_digest(nested[1])


def test_price_alias_latency_and_ids_are_not_in_the_key() -> None:
    cheap = replace(MODEL, alias="expert 7", prices=Prices(1, 1, 1), latency_s=9.0)
    later = replace(ASKER, step=9, episode_id="another", turn=3)
    moved = replace(ask(offer=cheap), call_id="another", asker=later)
    assert key_of(moved, "1") == key_of(ask(), "1")


@pytest.mark.parametrize(
    "changed",
    [
        ask(offer=SEARCH, query="dogs"),
        ask(offer=SEARCH, query=["cats"]),
        ask(offer=SEARCH, query="cats", k=1),
        ask(offer=replace(SEARCH, identity="web-search"), query="cats"),
    ],
)
def test_another_request_has_another_content(changed: ToolRequest) -> None:
    base = ask(offer=SEARCH, query="cats")
    assert key_of(changed, "1").content != key_of(base, "1").content


def test_another_version_has_another_content() -> None:
    assert key_of(ask(), "1").content != key_of(ask(), "2").content


def test_the_question_is_in_the_key_of_a_model_and_not_of_a_tool() -> None:
    other = replace(TASK, question="What is 2 + 3?")
    for offer, differs in ((MODEL, True), (SEARCH, False)):
        base = ask(offer=offer)
        keys = key_of(base, "1"), key_of(replace(base, task=other), "1")
        assert (keys[0].content != keys[1].content) is differs


def test_seed_and_attempt_make_the_sample_and_leave_the_content() -> None:
    keys = [key_of(ask(seed, attempt), "1") for seed in range(4) for attempt in range(4)]
    assert len({key.sample for key in keys}) == 16
    assert len({key.content for key in keys}) == 1


# Modes


@pytest.mark.parametrize(
    ("mode", "this_very_call", "same_content", "nothing"),
    [
        (Mode.LIVE, CALLS, CALLS, CALLS),
        (Mode.RECORD, PLAYS, CALLS, CALLS),
        (Mode.REPLAY_OR_LIVE, PLAYS, PLAYS, CALLS),
        (Mode.REPLAY, PLAYS, PLAYS, NOT_RECORDED),
        (Mode.REPLAY_OR_FAIL, PLAYS, PLAYS, ERROR),
    ],
)
def test_what_each_mode_does(
    tmp_path: Path, mode: Mode, this_very_call: str, same_content: str, nothing: str
) -> None:
    def did(request: ToolRequest, path: Path) -> str:
        oracle = Oracle()
        try:
            [outcome] = seen(path, mode, oracle, [request])
        except CassetteError:
            return ERROR
        if isinstance(outcome, Fault):
            return NOT_RECORDED if outcome.kind is FaultKind.NOT_RECORDED else outcome.kind
        assert outcome.replayed is (oracle.calls == 0)
        return CALLS if oracle.calls else PLAYS

    recorded = ask(seed=1)
    seen(tmp_path / "recorded", Mode.RECORD, Oracle(), [recorded])
    requests = recorded, ask(seed=2), ask(seed=1, question_number=5)
    found = []
    for n, request in enumerate(requests):  # each against an untouched copy
        shutil.copy(tmp_path / "recorded", tmp_path / f"copy {n}")
        found.append(did(request, tmp_path / f"copy {n}"))
    assert found == [this_very_call, same_content, nothing]


def test_live_opens_no_file(tmp_path: Path) -> None:
    seen(tmp_path / "c", Mode.LIVE, Oracle(), [ask()])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", [Mode.REPLAY, Mode.REPLAY_OR_FAIL])
def test_a_replay_leaves_the_file_as_it_is(tmp_path: Path, mode: Mode) -> None:
    path = tmp_path / "c"
    seen(path, Mode.RECORD, Oracle(), [ask()])
    before = path.read_bytes()
    seen(path, mode, Oracle(), [ask(), ask(seed=5)])
    assert path.read_bytes() == before


# Replays


def test_a_replayed_run_sees_what_the_recorded_one_saw(tmp_path: Path) -> None:
    outcomes = (
        Reply("one", Usage(1, 2, 3, 4, 5), 0.5),
        Fault(FaultKind.TIMEOUT, "too slow", Usage(input_tokens=9)),
        Reply("two", service_s=1.5),
        Fault(FaultKind.BAD_INPUT, "not a number"),
    )
    requests = [ask(seed=seed, attempt=attempt) for seed in (1, 2) for attempt in range(2)]
    live = seen(tmp_path / "c", Mode.RECORD, Oracle(*outcomes), requests)
    again = Oracle()
    cheaper = [replace(one, offer=replace(MODEL, prices=Prices(1))) for one in requests]
    replayed = seen(tmp_path / "c", Mode.REPLAY_OR_FAIL, again, cheaper)
    assert again.calls == 0
    assert [text(one) for one in replayed] == [text(one) for one in live]
    assert [type(one) for one in replayed] == [Reply, ReplayedFault, Reply, ReplayedFault]
    assert [one.usage for one in replayed] == [one.usage or Usage() for one in live]
    for before, after in zip(live, replayed, strict=True):
        if isinstance(before, Reply) and isinstance(after, Reply):
            assert after.service_s == before.service_s and after.replayed
        if isinstance(before, Fault) and isinstance(after, ReplayedFault):
            assert after.kind is before.kind and after.service_s >= 0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.text(st.characters())
        | st.text(st.characters(categories=["Cs"]))
        | st.sampled_from(["\0", "a\0b", "<|im_end|>\n<tool_call>", "\ud800", "\r\n", ""])
    )
)
def test_any_text_comes_back_as_it_was(texts: list[str]) -> None:
    requests = [ask(attempt=n) for n in range(len(texts))]
    replies = [Reply(one) for one in texts]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c"
        live = seen(path, Mode.RECORD, Oracle(*replies), requests, environ={})
        replayed = seen(path, Mode.REPLAY, Oracle(), requests)
    assert [text(one) for one in live] == texts
    assert [text(one) for one in replayed] == texts


def test_a_run_with_other_seeds_replays_and_keeps_the_variety(tmp_path: Path) -> None:
    path = tmp_path / "c"
    recorded = seen(path, Mode.RECORD, Oracle(), [ask(seed=s) for s in range(8)])
    others = [ask(seed=1000 + s) for s in range(64)]
    first, second = (seen(path, Mode.REPLAY_OR_FAIL, Oracle(), others) for _ in range(2))
    assert first == second
    texts = {text(one) for one in first}
    assert texts <= {text(one) for one in recorded} and len(texts) >= 4


def test_what_replay_or_live_played_can_be_replayed_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "c"
    seen(path, Mode.RECORD, Oracle(), [ask(seed=s) for s in range(4)])
    requests = [ask(seed=100 + n, n=n % 2) if n % 3 else ask(seed=100 + n) for n in range(12)]
    mixed = seen(path, Mode.REPLAY_OR_LIVE, Oracle(), requests)
    seen(path, Mode.RECORD, Oracle(), [ask(seed=s) for s in range(1000, 1100)])  # more to pick
    assert list(map(text, seen(path, Mode.REPLAY, Oracle(), requests))) == list(map(text, mixed))


def test_episodes_of_one_run_do_not_copy_each_others_samples(tmp_path: Path) -> None:
    group = [ask(seed=s) for s in range(8)]
    oracle = Oracle()
    seen(tmp_path / "c", Mode.REPLAY_OR_LIVE, oracle, group)
    assert oracle.calls == 8


@pytest.mark.parametrize("mode", [Mode.RECORD, Mode.REPLAY_OR_LIVE])
def test_a_failure_of_the_moment_is_called_again_and_then_answered_for_good(
    tmp_path: Path, mode: Mode
) -> None:
    path = tmp_path / "c"
    down = Oracle(Fault(FaultKind.CONNECTION, "down"))
    [failed] = seen(path, mode, down, [ask()])
    [replayed] = seen(path, Mode.REPLAY, Oracle(), [ask()])
    assert text(failed) == text(replayed) == "down"
    [answered] = seen(path, mode, Oracle(), [ask()])
    assert text(answered) == "answer 1" and rows(path) == 1
    for again in (mode, Mode.REPLAY):
        assert text(seen(path, again, down, [ask()])[0]) == "answer 1"


def test_a_failure_that_is_the_calls_own_is_not_called_again(tmp_path: Path) -> None:
    wrong = Oracle(Fault(FaultKind.BAD_INPUT, "no such file"))
    seen(tmp_path / "c", Mode.RECORD, wrong, [ask()])
    oracle = Oracle()
    [outcome] = seen(tmp_path / "c", Mode.REPLAY_OR_LIVE, oracle, [ask()])
    assert text(outcome) == "no such file" and oracle.calls == 0


def test_a_spent_budget_is_replayed_to_its_own_run_only(tmp_path: Path) -> None:
    path, spent = tmp_path / "c", Oracle(Fault(FaultKind.BUDGET, "budget exhausted"))
    seen(path, Mode.RECORD, spent, [ask(seed=1)])
    outcomes = seen(path, Mode.REPLAY, Oracle(), [ask(seed=1), ask(seed=2)])
    kinds = [one.kind for one in outcomes if isinstance(one, Fault)]
    assert kinds == [FaultKind.BUDGET, FaultKind.NOT_RECORDED]


def test_of_one_call_made_twice_both_see_the_first_and_each_its_own_bill(tmp_path: Path) -> None:
    oracle = Oracle()
    made = asyncio.Event()

    async def slow() -> Reply:
        reply = await oracle.call(ask())
        await made.wait()
        return reply

    async def run() -> tuple[Reply, Reply]:
        async with Cassette(tmp_path / "c", Mode.RECORD) as cassette:
            hedged = asyncio.create_task(cassette.play(key_of(ask(), "1"), slow))
            while not oracle.calls:
                await asyncio.sleep(0)
            second = await cassette.play(key_of(ask(), "1"), lambda: oracle.call(ask()))
            made.set()
            return await asyncio.wait_for(hedged, 10), second

    first, second = asyncio.run(run())
    assert first.text == second.text == "answer 2"
    assert (first.usage.input_tokens, second.usage.input_tokens) == (1, 2)
    assert not first.replayed and not second.replayed


def test_a_failure_keeps_its_recorded_latency(tmp_path: Path) -> None:
    path, failure = tmp_path / "c", ask(attempt=1)
    seen(path, Mode.RECORD, Oracle(Reply("x", service_s=99.0)), [ask()])
    seen(path, Mode.RECORD, Oracle(Fault(FaultKind.BAD_INPUT, "no")), [failure])
    [replayed] = seen(path, Mode.REPLAY, Oracle(), [failure], latencies=Latencies.SAMPLED)
    assert isinstance(replayed, ReplayedFault) and replayed.service_s < 99.0


def test_sampled_latencies_are_drawn_from_the_tools_answers_and_repeat(tmp_path: Path) -> None:
    path, requests = tmp_path / "c", [ask(seed=s) for s in range(10)]
    seen(path, Mode.RECORD, Oracle(), requests)
    seen(path, Mode.RECORD, Oracle(Reply("x", service_s=99.0)), [ask(offer=SEARCH)])

    def latencies(kind: Latencies) -> list[float | None]:
        replayed = seen(path, Mode.REPLAY, Oracle(), requests, latencies=kind)
        return [one.service_s for one in replayed if isinstance(one, Reply)]

    recorded, sampled = latencies(Latencies.RECORDED), latencies(Latencies.SAMPLED)
    assert recorded == [0.25 * n for n in range(1, 11)]
    assert sampled != recorded and set(sampled) <= set(recorded) and len(set(sampled)) > 3
    assert latencies(Latencies.SAMPLED) == sampled


# Secrets


def test_no_secret_is_in_the_file_nor_seen(tmp_path: Path) -> None:
    path = tmp_path / "c"
    environ = {"OPENAI_API_KEY": "sk-hush-0123456789", "HOME": "/home/somebody"}
    token = "eyJhbGciOiJIUzI1NiJ9.e30.abc-_123"
    outcomes = (
        Reply(f"the key is {environ['OPENAI_API_KEY']} in /home/somebody"),
        Fault(FaultKind.REJECTED, f"Authorization: Bearer {token} was refused"),
        Reply("bearer certificates and bearer authentication are prose"),
    )
    requests = [ask(attempt=n, key=environ["OPENAI_API_KEY"]) for n in range(3)]
    version = f"v1 {environ['OPENAI_API_KEY']}"
    texts = [
        "the key is [redacted] in /home/somebody",
        "Authorization: Bearer [redacted] was refused",
        "bearer certificates and bearer authentication are prose",
    ]

    def heard(mode: Mode, oracle: Oracle) -> list[str]:
        return [text(one) for one in seen(path, mode, oracle, requests, version, environ=environ)]

    assert heard(Mode.RECORD, Oracle(*outcomes)) == texts
    assert heard(Mode.REPLAY_OR_FAIL, Oracle()) == texts
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"bearer authentication" in stored
    assert environ["OPENAI_API_KEY"].encode() not in stored and token.encode() not in stored


# Many writers, death and full disks

WRITER = """
import asyncio, json, sys
from pathlib import Path
from orchestra_ray.tools.cassette import Cassette, Mode, canonical_digest
from orchestra_ray.tools.cassette_store import Key, Recorded
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
    assert warnings.count("going on without recording") == 1
    copy = tmp_path / "kept" / "c"
    assert stored(copy, "all", 0) == answers[0][2] and stored(copy, "all", 99) is None


def test_at_a_file_size_limit_the_run_goes_on_and_says_so_once(tmp_path: Path) -> None:
    limit = ("prlimit", "--fsize=300000", "--")
    lines, warnings = finished(writer(tmp_path / "c", "w", 100, 5000, limit))
    assert lines.pop() is not None and len(lines) == 200
    assert warnings.count("going on without recording") == 1
    assert stored(tmp_path / "c", "all", 0) == lines[0][2]


@pytest.mark.skipif(not may_mount(), reason="no mounts in user namespaces here")
def test_a_cassette_in_a_read_only_folder_can_be_replayed(tmp_path: Path) -> None:
    folder = tmp_path / "sealed"
    finished(writer(folder / "c", "w", 3, 10))
    mount = f'mount --bind -o ro {folder} {folder} && ! touch {folder}/x 2>/dev/null && "$@"'
    sealed = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    read = f"""
from pathlib import Path
from orchestra_ray.tools.cassette import canonical_digest
from orchestra_ray.tools.cassette_store import CassetteStore, Key
store = CassetteStore(Path({str(folder / "c")!r}), writable=False)
print(store.exact(Key("tool", "1", canonical_digest(["all", 2]), 2), lasting=False).text)
"""
    environ = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [*sealed, sys.executable, "-c", read]
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    assert done.stdout.startswith("w 2 "), done.stderr


async def _nothing() -> Reply:
    raise AssertionError("called out")


def in_cassette(
    path: Path, mode: Mode, work: Callable[[Cassette], Awaitable[Any]]
) -> tuple[Any, Cassette]:
    async def run() -> tuple[Any, Cassette]:
        async with Cassette(path, mode) as cassette:
            return await work(cassette), cassette

    return asyncio.run(run())


def test_the_event_loop_runs_on_while_another_process_holds_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c"
    seen(path, Mode.RECORD, Oracle(), [ask()])
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")

    async def work(cassette: Cassette) -> int:
        key = key_of(ask(seed=2), "1")
        recorded = Recorded("x", Usage(), 1.0, None, 0.0)
        storing = asyncio.create_task(cassette.store(key, recorded))
        ticks = 0
        while ticks < 20:
            await asyncio.sleep(0.005)
            ticks += 1
        assert not storing.done()
        lock.execute("COMMIT")
        await asyncio.wait_for(storing, 20)
        return ticks

    ticks, cassette = in_cassette(path, Mode.RECORD, work)
    lock.close()
    assert ticks == 20 and cassette.failure is None and rows(path) == 2


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


# Files that cannot be used


def damage_middle(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : len(content)] = b"\x5a" * (len(content) - 4096)
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6000])


def other_database(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE calls (content)")


def other_format(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


DAMAGE: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("not a database, " * 500), "damaged"),
    "middle": (damage_middle, "damaged"),
    "truncated": (truncate, "damaged"),
    "empty": (lambda path: path.write_bytes(b""), "not a cassette"),
    "another database": (other_database, "not a cassette"),
    "another format": (other_format, "format 99"),
}


@pytest.mark.parametrize("mode", [Mode.RECORD, Mode.REPLAY])
@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, damage: str, mode: Mode) -> None:
    path = tmp_path / "c"
    seen(path, Mode.RECORD, Oracle(Reply("x" * 3000)), [ask(seed=s) for s in range(20)])
    act, says = DAMAGE[damage]
    act(path)
    with pytest.raises(ConfigError) as error:
        Cassette(path, mode)
    line = str(error.value)
    assert line.startswith(f"cassette {path}: ") and says in line and "\n" not in line


@pytest.mark.parametrize("mode", [Mode.REPLAY, Mode.REPLAY_OR_FAIL])
def test_a_replay_without_a_file_is_one_line(tmp_path: Path, mode: Mode) -> None:
    with pytest.raises(ConfigError, match="no such file; record it first"):
        Cassette(tmp_path / "c", mode)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_hold_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be opened"):
        Cassette(tmp_path / "file" / "c", Mode.RECORD)


def test_a_cassette_that_breaks_under_a_replay_is_an_error_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "c"
    more_than_its_cache = Oracle(Reply("x" * 60_000))
    seen(path, Mode.RECORD, more_than_its_cache, [ask(seed=s) for s in range(200)])

    async def work(cassette: Cassette) -> None:
        damage_middle(path)
        with pytest.raises(CassetteError, match="cannot be read"):
            for s in range(200):
                await cassette.play(key_of(ask(seed=s), "1"), _nothing)

    in_cassette(path, Mode.REPLAY, work)
