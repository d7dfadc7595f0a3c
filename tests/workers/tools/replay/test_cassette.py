"""What each mode records and plays, in real SQLite files."""

import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.money import Prices, Usage
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.replay.cassette import (
    Cassette,
    CassetteError,
    Latencies,
    Mode,
    ReplayedFault,
    key_of,
)

from ..tapes import MODEL, SEARCH, Oracle, ask, rows, seen, text

PLAYS, CALLS, NOT_RECORDED, ERROR = "plays", "calls", "not recorded", "error"

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
    cheaper = [replace(one, option=replace(MODEL, prices=Prices(1))) for one in requests]
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
    asked, made = asyncio.Event(), asyncio.Event()

    async def slow() -> Reply:
        reply = await oracle.call(ask())
        asked.set()
        await asyncio.wait_for(made.wait(), 10)
        return reply

    async def run() -> tuple[Reply, Reply]:
        async with Cassette(tmp_path / "c", Mode.RECORD) as cassette:
            hedged = asyncio.create_task(cassette.play(key_of(ask(), "1"), slow))
            await asyncio.wait_for(asked.wait(), 10)
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
    seen(path, Mode.RECORD, Oracle(Reply("x", service_s=99.0)), [ask(option=SEARCH)])

    def latencies(kind: Latencies) -> list[float | None]:
        replayed = seen(path, Mode.REPLAY, Oracle(), requests, latencies=kind)
        worth = [one.usage.billed_s or one.service_s for one in replayed if isinstance(one, Reply)]
        assert worth == [0.25 * n for n in range(1, 11)]  # what it would cost goes by its own
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

    def texts_seen(mode: Mode, oracle: Oracle) -> list[str]:
        return [text(one) for one in seen(path, mode, oracle, requests, version, environ=environ)]

    assert texts_seen(Mode.RECORD, Oracle(*outcomes)) == texts
    assert texts_seen(Mode.REPLAY_OR_FAIL, Oracle()) == texts
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"bearer authentication" in stored
    assert environ["OPENAI_API_KEY"].encode() not in stored and token.encode() not in stored


def test_a_call_that_no_row_can_hold_is_left_out_and_the_recording_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "tape"
    seconds = {"good": 0.5, "odd": float("nan"), "late": 0.5}
    oracle = Oracle(*(Reply(said, Usage(), seconds[said]) for said in seconds))
    requests = [ask(seed=seed) for seed in range(3)]
    outcomes = seen(path, Mode.RECORD, oracle, requests)
    assert [text(outcome) for outcome in outcomes] == list(seconds)
    assert rows(path) == 2
