"""The table on a terminal of 80 columns."""

import io
from dataclasses import replace

from rich.console import Console

from orchestra_ray.evaluation.summary import Summary
from orchestra_ray.evaluation.table import render_table

BEFORE = Summary(0.355, (0.285, 0.425), 0.00078, 3.29, 0.156, (0.093, 0.225), 2.5)
AFTER = Summary(0.825, (0.77, 0.87), 0.00033, 2.31, -0.706, (-0.773, -0.646), 1.54)
BASELINES = {
    "random": BEFORE,
    "cheapest": Summary(0.365, (0.3, 0.43), 0.00007, 2.16, 0.449, (0.374, 0.522), 1.5),
    "strongest": Summary(1.0, (1.0, 1.0), 0.00237, 126.37, 0.244, (0.188, 0.298), 1.56),
    "oracle": AFTER,
}


def sampled(width: int = 80, color: bool = False, **baselines: Summary) -> str:
    file = io.StringIO()
    system = "truecolor" if color else None
    console = Console(file=file, width=width, color_system=system, force_terminal=color)
    rows = {"before": BEFORE} | (baselines or BASELINES) | {"after": AFTER}
    console.print(render_table(rows, "simulated experts"))
    return file.getvalue()


def test_rows_stand_in_order_and_whole_in_80_columns() -> None:
    rows = sampled().splitlines()
    assert max(map(len, rows)) <= 80
    names = [row.split()[0] for row in rows if "±" in row and "interval" not in row]
    assert names == ["before", ">", "random", "cheapest", "strongest", "oracle"]
    assert "…" not in sampled()


def test_values_stand_under_their_headings_with_half_intervals() -> None:
    rows = {row.split()[0]: row.split() for row in sampled().splitlines() if row.strip()}
    assert rows["policy"] == "policy accuracy % cost ¢ latency s reward turns".split()
    assert rows["before"] == "before 35.5 ±7.0 0.0780 3.3 0.156 ±0.066 2.50".split()
    assert rows["strongest"] == "strongest 100.0 ±0.0 0.2370 126.4 0.244 ±0.055 1.56".split()


def test_after_is_marked_without_colour_and_bold_with_it() -> None:
    assert " > after " in sampled()
    after = next(row for row in sampled(color=True).splitlines() if "after" in row)
    before = next(row for row in sampled(color=True).splitlines() if "before" in row)
    assert "\x1b[1;" in after and "\x1b[1;" not in before


def test_the_unit_fits_the_largest_cost() -> None:
    dear = Summary(0.5, (0.4, 0.6), 2.5, 1.0, 0.1, (0.0, 0.2), 2.0)
    assert "cost $" in sampled(dear=dear)


def test_without_training_the_policy_is_marked() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(render_table({"policy": BEFORE, "oracle": AFTER}, "simulated experts"))
    assert isinstance(console.file, io.StringIO) and " > policy " in console.file.getvalue()


def test_a_policy_whose_calls_failed_is_not_to_be_mistaken() -> None:
    dead = replace(
        BEFORE, accuracy=0.0, cost_usd=0.0, failed={"connection": 0.2, "unavailable": 0.8}
    )
    some = replace(BEFORE, failed={"timeout": 0.0002})
    text = sampled(random=BEFORE, cheapest=dead, strongest=some)
    marked = [row.split()[1] for row in text.splitlines() if row.strip().startswith("!")]
    assert marked == ["cheapest", "strongest"]
    assert "cheapest: ALL CALLS FAILED (mostly connection)" in " ".join(text.split())
    assert "strongest: below 0.1% of its calls failed (timeout)" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert "failed" not in sampled() and "!" not in sampled()
    assert ">! after" in drawn_after(some)


def drawn_after(after: Summary) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(render_table({"before": BEFORE, "after": after}, "simulated experts"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
