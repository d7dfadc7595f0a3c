"""The page: balanced, self-contained, complete and escaped."""

import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.evaluation.report.page import RunInfo, render_report, write_report
from orchestra_ray.evaluation.report.training import Metrics

_VOID = {"meta", "link", "br", "wbr", "img"}
_NASTY = "<script>alert('x')</script> & \"quoted\" http://example.com"


class Page(HTMLParser):
    """Checks balance while it reads, and keeps attributes, texts and table rows."""

    def __init__(self, markup: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "tr":
            self.rows.append([])
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.append((self.open[-1], data))
            if self.open[-1] in ("td", "th", "small") and "tr" in self.open:
                self.rows[-1].append(data)

    def said(self, tag: str) -> list[str]:
        return [text for where, text in self.texts if where == tag]


def measured(accuracy: float, cost_usd: float, reward: float) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "accuracy_ci95": [accuracy - 0.05, accuracy + 0.05],
        "cost_usd": cost_usd,
        "latency_s": 2.5,
        "reward": reward,
        "reward_ci95": [reward - 0.05, reward + 0.05],
        "turns": 1.5,
    }


SUMMARY = {
    "before": measured(0.355, 0.00078, 0.156),
    "after": measured(0.825, 0.00033, 0.706),
    "baselines": {
        "random": measured(0.535, 0.00099, 0.165),
        "cheapest": measured(0.365, 0.00007, -0.249),
        "strongest": measured(0.84, 0.00237, 0.69),
        "oracle": measured(0.955, 0.00034, 0.866),
    },
    "tasks": 200,
    "wall_s": 611.2,
}
RUN = RunInfo(
    name="quickstart",
    command="orchestra train --config configs/quickstart.yaml",
    config={"steps": 3},
    wall_s=611.2,
    versions={"ray": "2.60.0"},
)


def steps(count: int = 3, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "time_s": 9.0 * step,
            "reward_mean": 0.1 * step,
            "accuracy": 0.4,
            "cost_usd": 0.001,
            "groups_kept": 5,
            "groups_dropped": 3,
            "seconds/generate": 5.0,
            "seconds/train": 2.0,
            "seconds/step": 8.0,
            "accounting/dispatched": 64 * step,
            "accounting/filtered_stale": 0,
        }
        | more
        for step in range(1, count + 1)
    ]


def test_the_page_is_balanced_and_loads_nothing() -> None:
    markup = render_report(SUMMARY, steps(), RUN)
    page = Page(markup)
    assert not {"script", "iframe", "object", "embed", "img"} & set(page.tags)
    links = [value for _, name, value in page.attributes if name in ("href", "src", "xlink:href")]
    assert links == ["data:,"]
    assert "://" not in markup and "url(" not in markup and "@import" not in markup


def test_every_policy_has_its_row_with_intervals() -> None:
    rows = Page(render_report(SUMMARY, steps(), RUN)).rows[:7]
    assert rows[0] == ["Policy", "Accuracy, %", "Cost, ¢", "Latency, s", "Reward", "Turns"]
    assert [row[0] for row in rows[1:]] == [
        "before", "after", "random", "cheapest", "strongest", "oracle",
    ]  # fmt: skip
    assert rows[4] == [
        "cheapest", "36.5", "31.5–41.5", "0.0070", "2.50", "−0.249", "−0.299 to −0.199", "1.50",
    ]  # fmt: skip


def test_every_other_policy_is_compared_with_the_policy() -> None:
    rows = Page(render_report(SUMMARY, steps(), RUN)).rows[7:]
    assert rows[0][0] == "After against"
    assert [row[0] for row in rows[1:]] == ["before", "random", "cheapest", "strongest", "oracle"]
    assert rows[2][1:] == ["+0.541", "outside both", "+29.0", "0.0990", "0.0166", "17% of its cost"]
    assert rows[3][1:3] == ["+0.955", "outside both"] and rows[3][-1] == "–"
    assert rows[4][1:4] == ["+0.016", "not shown", "−1.5"] and rows[4][-1] == "not reached"


def test_an_evaluation_without_training_shows_its_policy() -> None:
    summary = {"policy": SUMMARY["after"], "baselines": SUMMARY["baselines"], "tasks": 200}
    rows = Page(render_report(summary, [], RUN)).rows
    assert [row[0] for row in rows][:3] == ["Policy", "policy", "random"]
    assert rows[6][0] == "Policy against" and rows[7][1] == "+0.541"


def with_optional(families: int) -> dict[str, Any]:
    more = {
        "by_family": {
            f"family_{n}": {"accuracy": n / 20, "accuracy_ci95": [0.0, 1.0], "tasks": 9}
            for n in range(families)
        },
        "calls": {"nova": 1.5, "calculator": 0.5},
        "latency_p50_s": 1.25,
        "latency_p95_s": 9.5,
        "preference_score": 0.25,
    }
    return {"policy": SUMMARY["after"] | more, "baselines": {}, "tasks": 9}


def test_families_stand_before_the_whole_and_optional_figures_have_columns() -> None:
    rows = Page(render_report(with_optional(2), [], RUN)).rows
    assert [text for text in rows[0] if text != "family_"] == [
        "Policy", "0", "1", "Overall, %", "Cost, ¢", "Latency, s", "p50 / p95, s", "Reward",
        "Preference score", "Turns",
    ]  # fmt: skip
    assert rows[1][:5] == ["policy", "0.0", "0.0–100.0", "5.0", "0.0–100.0"]
    assert "1.25 / 9.50" in rows[1] and "0.250" in rows[1]


def test_many_families_have_tables_of_their_own() -> None:
    page = Page(render_report(with_optional(11), [], RUN))
    headings = [[text for text in row if text != "family_"] for row in page.rows[::2]]
    assert [len(row) for row in headings] == [8, 10, 3]
    assert "Accuracy on each family of tasks, %" in page.said("h3")


def test_calls_are_told_as_shares_of_all_of_a_policy() -> None:
    page = Page(render_report(with_optional(0), [], RUN))
    assert "Calls by tool and model" in page.said("h2")
    assert page.said("dt")[:2] == ["nova", "calculator"]
    assert [text for text in page.said("dd") if text.endswith("%")] == ["75.0%", "25.0%"]
    assert "2.00 a task" in page.said("span")


def test_the_front_and_its_hypervolume_are_told() -> None:
    (said,) = [text for text in Page(render_report(SUMMARY, [], RUN)).said("p") if "Pareto" in text]
    assert "Pareto front: cheapest, after, strongest." in said
    assert "The oracle router is a bound" in said
    # 0.00237 is the dearest: cheapest adds (237-7)*36.5, after (237-33)*(82.5-36.5).
    whole = ((237 - 7) * 36.5 + (237 - 33) * 46.0) / (237 * 100)
    assert f"hypervolume is {whole:.3f}, without after" in said


def test_the_hypervolume_and_the_cost_at_equal_accuracy_have_their_intervals() -> None:
    costs = {
        "front": ["cheapest", "after", "strongest"],
        "hypervolume": 0.75,
        "hypervolume_ci95": [0.701, 0.802],
        "equal_cost_usd": {"random": 0.00017},
        "equal_cost_usd_ci95": {"random": [0.00012, 0.00023]},
    }
    page = Page(render_report(SUMMARY | {"tradeoffs": costs}, [], RUN))
    (front,) = [text for text in page.said("p") if "Pareto front" in text]
    assert "(0.701–0.802), without after" in front
    (row,) = [row for row in page.rows if row[0] == "random" and "of its cost" in row[-1]]
    assert row[-2] == "0.0120–0.0230"


def test_the_verdict_stands_on_the_page() -> None:
    (verdict, *_) = Page(render_report(SUMMARY, steps(), RUN)).said("p")[1:]
    assert verdict.startswith("After training the reward is 0.706, 0.550 above before (0.156)")
    assert verdict.endswith("it is not shown to differ from strongest.")


def test_charts_name_what_they_show() -> None:
    page = Page(render_report(SUMMARY, steps(), RUN))
    shown = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-label")]
    assert shown == [
        "Accuracy against cost", "Accuracy against cost", "Reward", "Accuracy, %",
        "Cost an episode, ¢", "Groups of a step", "Seconds of each phase, by step",
        "Seconds of each phase, by step",
    ]  # fmt: skip


def test_what_the_metrics_lack_is_left_out() -> None:
    page = Page(render_report(SUMMARY, [{"step": 1, "time_s": 1.0, "loss": "NaN"}], RUN))
    headings = page.said("h2") + page.said("h3")
    assert headings == [
        "Result", "Accuracy against cost", "Against each other policy", "Reproduce",
        "Configuration", "Versions",
    ]  # fmt: skip


@pytest.mark.parametrize("metrics", [[], steps()])
def test_a_run_without_an_evaluation_has_a_report_too(metrics: list[dict[str, Any]]) -> None:
    page = Page(render_report({}, metrics, RUN))
    assert page.rows == [] and "Result" not in page.said("h2")
    assert ("Time of a step" in page.said("h2")) == bool(metrics)


def test_phases_show_what_the_step_spent_beside_them() -> None:
    page = Page(render_report(SUMMARY, steps(), RUN))
    assert [text for text in page.said("li") if text.endswith(" s")] == [
        "generate 5.0 s", "train 2.0 s", "rest of the step 1.0 s",
    ]  # fmt: skip


def test_accounting_is_told_as_the_last_step_left_it() -> None:
    page = Page(render_report(SUMMARY, steps(), RUN))
    assert "dispatched" in page.said("dt") and "192" in page.said("dd")
    assert "filtered stale" not in page.said("dt")


def test_all_text_is_escaped() -> None:
    summary = SUMMARY | {"baselines": {_NASTY: SUMMARY["before"]}}
    run = RunInfo(
        name=_NASTY, command=_NASTY, config={_NASTY: _NASTY}, wall_s=1.0, versions={_NASTY: _NASTY}
    )
    metrics = steps(**{f"seconds/{_NASTY}": 0.5, f"accounting/{_NASTY}": 4})
    page = Page(render_report(summary, metrics, run))
    assert "script" not in page.tags
    assert page.said("h1") == [_NASTY] and page.said("code") == [_NASTY]
    assert {name for _, name, _ in page.attributes if name.startswith("on")} == set()


def test_policies_without_finite_numbers_stay_in_the_table_only() -> None:
    broken = measured(0.5, 0.001, 0.1) | {"cost_usd": "NaN", "reward": "NaN"}
    page = Page(render_report(SUMMARY | {"after": broken}, steps(), RUN))
    assert [text.split(":")[0] for text in page.said("title") if "accuracy" in text][:5] == [
        "oracle", "strongest", "cheapest", "random", "before",
    ]  # fmt: skip
    assert page.rows[2][0] == "after" and "no difference" in page.said("p")[1]
    Page(render_report({"before": broken, "after": broken, "baselines": {}, "tasks": 1}, [], RUN))


def test_secrets_are_redacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPERT_API_KEY", "sk<planted>secret")
    run = RunInfo(**(RUN | {"command": "orchestra train key=sk<planted>secret"}))
    assert write_report(tmp_path / "report.html", SUMMARY, steps(), run) is None
    markup = (tmp_path / "report.html").read_text()
    assert "planted" not in markup and "[redacted]" in markup


def test_a_report_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    failure = write_report(tmp_path / "nowhere" / "report.html", SUMMARY, steps(), RUN)
    assert failure is not None and failure.message == "No such file or directory"


def test_of_a_step_that_stands_twice_the_last_line_counts() -> None:
    lines = [{"step": 1, "x": 1}, {"step": 2, "x": 2}, {"step": 1, "x": 3}, {"x": 9}]
    metrics = Metrics(lines)
    values = metrics.values("x")
    assert values is not None
    assert metrics.steps_N.tolist() == [1.0, 2.0] and values.tolist() == [3.0, 2.0]


def test_values_that_are_no_numbers_are_gaps() -> None:
    values = Metrics([{"step": n, "x": x} for n, x in enumerate([1.0, "NaN", None, True])]).values(
        "x"
    )
    assert values is not None
    assert values[0] == 1.0 and all(math.isnan(value) for value in values[1:])
    assert Metrics([{"step": 1, "x": "NaN"}]).values("x") is None


@pytest.mark.parametrize("count", [1, 2, 400])
def test_runs_of_any_length_have_a_page(count: int) -> None:
    markup = render_report(SUMMARY, steps(count), RUN)
    Page(markup)
    assert "nan" not in markup.replace("finance", "") and len(markup) < 400_000


def test_a_policy_whose_calls_failed_says_so() -> None:
    assert "Failed calls" not in render_report(SUMMARY, steps(), RUN)
    dead = measured(0.0, 0.0, -0.2) | {"failed": {"connection": 0.25, "unavailable": 0.75}}
    some = measured(0.5, 0.001, 0.2) | {"failed": {"timeout": 0.125}}
    baselines = SUMMARY["baselines"] | {"cheapest": dead, "random": some}
    page = Page(render_report(SUMMARY | {"baselines": baselines}, steps(), RUN))
    rows = {row[0]: row for row in page.rows[:7]}
    assert rows["Policy"][-1] == "Failed calls, %"
    assert rows["cheapest"][-2:] == ["ALL", "connection"]
    assert rows["random"][-2:] == ["12.5", "timeout"] and rows["after"][-1] == "0.0"
    said = " ".join(page.said("strong"))
    assert "cheapest: ALL CALLS FAILED (mostly connection)" in said
    assert "random: 12.5% of its calls failed (timeout)" in said
