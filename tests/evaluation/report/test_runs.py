"""Runs of one configuration as one setting, and calls by policy from a ledger."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import Caller, LedgerEntry
from orchestra_ray.evaluation.report.calls import in_one_order
from orchestra_ray.evaluation.report.cells import Measure, broken, money, seconds, signed
from orchestra_ray.evaluation.report.runs import Run, across, calls_of, rows_of, settings
from orchestra_ray.evaluation.report.training import Metrics
from orchestra_ray.evaluation.summary import FamilySummary, Summary
from orchestra_ray.evaluation.tradeoffs import Tradeoffs
from orchestra_ray.spend.ledger import table


def summary(accuracy: float, cost_usd: float = 0.01, **more) -> Summary:
    ends = (accuracy - 0.1, accuracy + 0.1)
    return Summary(accuracy, ends, cost_usd, 2.0, accuracy, ends, 1.5, **more)


def run(name: str, accuracy: float | None = None, **tree) -> Run:
    rows = {} if accuracy is None else {"policy": summary(accuracy)}
    return Run(name, "", Metrics([]), rows, tree={"name": name} | tree)


def test_runs_that_differ_by_seed_and_name_are_one_setting() -> None:
    one, other = {"reward": {"preset": "paper"}}, {"reward": {"preset": "gdpo"}}
    found = settings(
        [
            run("a-s1", 0.4, seed=1, **one),
            run("b", seed=1, **other),
            run("a-s2", 0.6, seed=2, **one),
        ]
    )
    assert [(s.label, [r.name for r in s.runs], s.seeds) for s in found] == [
        ("a", ["a-s1", "a-s2"], 2),
        ("b", ["b"], 0),
    ]
    assert found[0].rows["policy"].accuracy == pytest.approx(0.5)
    assert found[0].rows["policy"].accuracy_ci95 == (0.4, 0.6)
    assert found[1].rows == {}


def test_runs_without_a_configuration_stand_alone() -> None:
    runs = [Run("x", "", Metrics([])), Run("y", "", Metrics([]))]
    assert [setting.label for setting in settings(runs)] == ["x", "y"]


def test_settings_of_the_same_label_are_told_apart() -> None:
    runs = [run("a-1", x=1), run("a-2", x=1), run("a", x=2)]
    assert [setting.label for setting in settings(runs)] == ["a-1 + a-2", "a"]


def test_tradeoffs_keep_the_interval_of_one_run_and_span_several() -> None:
    one = Tradeoffs(("policy",), 0.5, (0.4, 0.6), {"random": 0.02}, {"random": (0.01, 0.03)})
    other = Tradeoffs(("policy",), 0.7, (0.6, 0.8), {"random": 0.05}, {})
    first = replace(run("a-1", 0.4, seed=1), tradeoffs=one)
    second = replace(run("a-2", 0.6, seed=2), tradeoffs=other)
    (alone,), (both,) = settings([first]), settings([first, second])
    assert alone.hypervolume_ends() == (0.4, 0.6) and both.hypervolume_ends() == (0.5, 0.7)
    assert alone.equal_cost_usd_ends("random") == (0.01, 0.03)
    assert both.equal_cost_usd_ends("random") == (0.02, 0.05)
    assert both.equal_cost_usd_ends("strongest") is None
    (lacking,) = settings([first, run("a-3", 0.6, seed=3)])
    assert lacking.hypervolume_ends() is None


def test_one_run_keeps_its_intervals_and_only_shared_policies_are_averaged() -> None:
    one = {"policy": summary(0.4), "random": summary(0.2)}
    assert across([one, {}]) == one
    assert list(across([one, {"policy": summary(0.6)}])) == ["policy"]


def test_what_a_seed_lacks_is_not_averaged() -> None:
    whole = summary(0.5, latency_p50_s=1.0, by_family={"a": FamilySummary(0.5, (0.4, 0.6), 9)})
    part = summary(0.5, calls={"nova": 1.0})
    mean = across([{"policy": whole}, {"policy": part}])["policy"]
    assert mean.latency_p50_s is None and mean.by_family == {} and mean.calls == {"nova": 0.5}


def test_calls_are_counted_by_policy_an_episode_without_its_own_tokens() -> None:
    def entry(group: str, identity: str, kind: str, step: int = 0, turn: int = 0) -> LedgerEntry:
        caller = Caller(step, group, f"{group}/0", turn)
        return LedgerEntry(
            f"{group}/0/{turn}", caller, identity, identity, kind, "p", Usage(), 1, 1.0
        )

    entries = table(
        "run",
        [
            entry("heldout/after/0", "policy", "policy"),
            entry("heldout/after/0", "nova", "model"),
            entry("heldout/after/0", "nova", "model", turn=1),
            entry("heldout/after/0", "nova", "model", turn=1),  # measured again
            entry("heldout/after/1", "policy", "policy"),
            entry("heldout/after/1", "calculator", "tool"),
            entry("heldout/a/b/7", "nova", "model"),
            entry("train/3", "nova", "model", step=1),
        ],
    )
    assert calls_of(entries) == {"after": {"nova": 1.0, "calculator": 0.5}, "a/b": {"nova": 1.0}}


def test_a_summary_s_own_calls_count_before_the_ledger_s() -> None:
    with_calls = {"policy": summary(0.5, calls={"nova": 3.0}).to_json()}
    without = {"random": summary(0.5).to_json()}
    rows = rows_of(
        with_calls | {"baselines": without}, {"policy": {"x": 1.0}, "random": {"y": 2.0}}
    )
    assert rows["policy"].calls == {"nova": 3.0} and rows["random"].calls == {"y": 2.0}


def test_bars_follow_the_policy_and_then_all_others() -> None:
    calls = {"after": {"a": 1.0, "b": 2.0}, "random": {"c": 1.0, "d": 5.0, "a": 1.0}}
    assert in_one_order(calls, "after") == ["b", "a", "d", "c"]


def test_a_column_has_one_unit_and_the_unknown_a_dash() -> None:
    assert money([0.001, 0.02]).symbol == "¢"
    assert [seconds([119.0]).symbol, seconds([5.0, 120.0]).symbol] == ["s", "min"]
    assert seconds([600.0]).text(90.0) == "1.5"
    measure = Measure("", 1.0, 1)
    assert [measure.text(None), measure.text(float("nan")), measure.text(-1.0)] == [
        "–",
        "–",
        "−1.0",
    ]
    assert [signed(measure, 1.0), signed(measure, -1.0)] == ["+1.0", "−1.0"]


@given(st.text("ab_<", max_size=60))
def test_a_broken_name_loses_no_character(name: str) -> None:
    assert broken(name).replace("<wbr>", "").replace("&lt;", "<") == name
    assert all(len(part.replace("&lt;", "<")) <= 17 for part in broken(name).split("<wbr>"))
