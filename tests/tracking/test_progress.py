"""A bar on a terminal, and plain lines elsewhere."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from orchestra_ray.tracking import progress
from orchestra_ray.tracking.progress import Progress, TimeLeft, phase, step_words

METRICS = {
    "reward_mean": 0.5124,
    "accuracy": 0.8125,
    "cost_usd": 0.00032,
    "tokens_per_s": 1360.4,
    "loss": 0.1,
}


def plain() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=80)


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_a_terminal_each_step_is_one_plain_line() -> None:
    console = plain()
    with Progress(3, True, console) as bar:
        for step in (1, 2, 3):
            bar.update(step, METRICS)
    rows = written(console).splitlines()
    assert len(rows) == 3
    assert rows[1].startswith("train 2/3 reward 0.512 acc 81.2% cost 0.0320¢ 1,360 tok/s 0:0")
    assert rows[1].endswith(" left")


def test_on_a_terminal_the_bar_shows_all_numbers_in_80_columns() -> None:
    console = terminal()
    with Progress(400, True, console) as bar:
        bar.update(12, METRICS)
    sampled = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written(console))
    last = [row for row in re.split(r"[\r\n]+", sampled) if "12/400" in row][-1]
    assert "reward 0.512 acc 81.2% cost 0.0320¢ 1,360 tok/s" in last
    assert last.rstrip().endswith("left") and len(last) <= 80


@pytest.mark.parametrize("make", [plain, terminal])
def test_nothing_is_written_where_progress_is_off(make) -> None:
    console = make()
    with Progress(3, False, console) as bar, phase("warm start", 2, False, console) as part:
        bar.update(1, METRICS)
        part.advance(2)
    assert written(console) == ""


def test_missing_metrics_are_left_out() -> None:
    assert step_words({"accuracy": 0.5}) == ["acc 50.0%"]
    assert step_words({"reward_mean": "NaN"}) == []


DROPPED = {
    "groups_kept": 12,
    "groups_dropped": 4,
    "groups_dropped/equal": 1,
    "groups_dropped/all_wrong": 3,
}


def test_a_step_tells_trained_and_dropped_groups() -> None:
    assert step_words(DROPPED) == ["16 groups: 12 trained, 4 dropped (3 all_wrong, 1 equal)"]
    assert step_words({"groups_kept": 1, "groups_dropped": 0}) == ["1 group: 1 trained"]
    still = DROPPED | {"grad_norm": 0.0}
    assert step_words(still)[0].endswith("(3 all_wrong, 1 equal), gradient 0")


def test_failed_episodes_and_lost_workers_are_told() -> None:
    failed = {"episodes_dispatched": 128, "episodes_failed": 8, "episodes_failed/tool": 8}
    assert step_words(failed) == ["8 of 128 episodes failed (8 tool)"]
    everything = failed | {"episodes_failed": 128, "episodes_failed/tool": 128}
    assert step_words(everything) == ["all 128 episodes failed (128 tool)"]
    assert step_words({"rollout_workers_lost": 2}) == ["2 rollout workers lost"]
    assert step_words({"rollout_workers_lost": 0, "episodes_failed": 0}) == []


def test_on_a_terminal_the_groups_stand_below_the_bar() -> None:
    console = terminal()
    with Progress(400, True, console) as bar:
        bar.update(12, METRICS | DROPPED)
    sampled = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written(console))
    rows = [row.rstrip() for row in re.split(r"[\r\n]+", sampled) if row.strip()]
    assert "12/400 reward 0.512 acc 81.2% cost 0.0320¢ 1,360 tok/s" in rows[-2]
    assert rows[-1] == "16 groups: 12 trained, 4 dropped (3 all_wrong, 1 equal)"


def test_a_phase_says_when_it_begins_and_how_it_ended() -> None:
    console = plain()
    with phase("warm start", 300, True, console) as bar:
        bar.advance(100)
        bar.advance(200)
    assert written(console).splitlines() == [
        "warm start: 300 to do",
        "warm start: done, 300/300 in 0:00",
    ]


def test_a_phase_that_breaks_off_says_where() -> None:
    console = plain()
    with pytest.raises(KeyError), phase("evaluating before", 10, True, console) as bar:
        bar.advance(4)
        raise KeyError
    assert written(console).splitlines()[-1] == "evaluating before: stopped, 4/10 in 0:00"


def test_a_long_phase_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PHASE_LINE_S", 0.0)
    console = plain()
    with phase("warm start", 10, True, console) as bar:
        bar.advance(5)
    assert written(console).splitlines()[1].startswith("warm start: 5/10 0:00 left")


@given(st.integers(0, 1000), st.floats(0.1, 1e4), st.integers(1, 60), st.integers(1, 500))
def test_at_a_steady_pace_the_time_left_is_exact(
    already: int, pace_s: float, updates: int, todo: int
) -> None:
    left = TimeLeft(already, 0.0)
    total = already + updates + todo
    guesses = [left.after(already + n, total, n * pace_s) for n in range(1, updates + 1)]
    assert guesses[-1] == pytest.approx(todo * pace_s)


def test_time_left_follows_the_recent_pace() -> None:
    left = TimeLeft(0, 0.0)
    now_s = 0.0
    for done in range(1, 100):
        now_s += 10.0 if done < 50 else 1.0
        guess = left.after(done, 100, now_s)
    assert guess == pytest.approx(1.0)


def test_time_left_is_unknown_before_anything_is_done() -> None:
    assert TimeLeft(3, 0.0).after(3, 10, 5.0) is None
