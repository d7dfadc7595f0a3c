"""The evaluation as a table in the terminal: before, after, and the baselines beside them."""

from collections.abc import Mapping

from rich import box
from rich.table import Table

from orchestra_ray.evaluation.significance import ALL_FAILED, failed_calls, in_order, subject
from orchestra_ray.evaluation.summary import Summary
from orchestra_ray.tracking.units import column_decimals, cost_unit


def render_table(summaries: Mapping[str, Summary], experts: str) -> Table:
    """Returns a table of at most 80 columns; ± is half of the 95% interval.

    `experts`: the label of the experts, since figures of simulated ones are no evidence.

    The row after training is bold and has a mark, so that it stands out without colour too. A row
    with failed calls is marked "!", with their fraction in a line below; red if all failed.
    """
    rows, own = in_order(summaries), subject(summaries)
    unit = cost_unit(summary.cost_usd for summary in rows.values())
    costs = [summary.cost_usd * unit.per_usd for summary in rows.values()]
    latencies = [summary.latency_s for summary in rows.values()]
    failing = failed_calls(rows)
    caption = [f"means over episodes with {experts}", "± is half of the 95% interval", *failing]
    table = Table(box=box.SIMPLE_HEAD, caption="\n".join(caption), pad_edge=False)
    table.add_column("policy", no_wrap=True)
    for heading in ("accuracy %", f"cost {unit.symbol}", "latency s", "reward", "turns"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, summary in rows.items():
        table.add_row(
            f"{_mark(summary, name == own)} {name}",
            _with_half(100 * summary.accuracy, [100 * end for end in summary.accuracy_ci95], 1),
            f"{summary.cost_usd * unit.per_usd:,.{column_decimals(costs)}f}",
            f"{summary.latency_s:,.{column_decimals(latencies)}f}",
            _with_half(summary.reward, summary.reward_ci95, 3),
            f"{summary.turns:.2f}",
            style="red"
            if summary.failed_share >= ALL_FAILED
            else "bold green"
            if name == own
            else None,
            end_section=name == own,
        )
    return table


def _mark(summary: Summary, is_own: bool) -> str:
    failed = "!" if summary.failed else ""
    return f">{failed}" if is_own else failed or " "


def _with_half(mean: float, interval: tuple[float, float] | list[float], places: int) -> str:
    half = (interval[1] - interval[0]) / 2
    return f"{mean:.{places}f} ±{half:.{places}f}"
