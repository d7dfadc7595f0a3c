"""The tables of an evaluation: all policies as in the paper's Table 1, the policy against each
other one, and the runs side by side.
"""

import html
from collections.abc import Callable, Sequence

from orchestra_ray.evaluation.pareto import Tradeoff, cheapest_of, equal_cost
from orchestra_ray.evaluation.report.cells import (
    PERCENT,
    REWARD,
    TURNS,
    UNKNOWN,
    Cell,
    Measure,
    Row,
    money,
    seconds,
    signed,
    table,
)
from orchestra_ray.evaluation.report.runs import Run, Setting
from orchestra_ray.evaluation.report.svg import element
from orchestra_ray.evaluation.significance import (
    ALL_FAILED,
    INTERVALS,
    RANGES,
    compare_all,
    failed_calls,
    sentences,
    subject,
)
from orchestra_ray.evaluation.summary import Summary
from orchestra_ray.tracking.units import duration

MOST_BESIDE = 4  # families in the main table; more than these have separate tables
MOST_APART = 9  # families in a separate table
P50_P95 = "p50 / p95"
_POINTS = Measure("", 100.0, 1)


def result(found: Sequence[Setting]) -> str:
    """Returns a card with the conclusions and the table; "" if no run was evaluated."""
    evaluated = [setting for setting in found if setting.rows]
    if not evaluated:
        return ""
    rows = [one for setting in evaluated for one in setting.rows.values()]
    families = list(dict.fromkeys(name for one in rows for name in one.by_family))
    beside = families if len(families) <= MOST_BESIDE else []
    apart = [] if beside else families
    more = [
        element("h3", "Accuracy on each family of tasks, %")
        + _policies(evaluated, apart[at : at + MOST_APART], whole=False)
        for at in range(0, len(apart), MOST_APART)
    ]
    return element(
        "section",
        element("h2", "Result"),
        *(_verdict(setting, len(evaluated) > 1) for setting in evaluated),
        _policies(evaluated, beside, whole=True),
        *more,
        element("p", html.escape(_how_to_read(evaluated)), class_="soft"),
        class_="card",
    )


def _verdict(setting: Setting, named: bool) -> str:
    verdict = html.escape(sentences(setting.rows, _ends(setting)))
    name = element("strong", html.escape(f"{setting.label}: ")) if named else ""
    warnings = "".join(element("p", element("strong", one)) for one in _warnings(setting))
    return element("p", name, verdict, class_="verdict") + warnings


def _warnings(setting: Setting) -> list[str]:
    """Returns those on policies with failed calls and on runs that trained almost nothing."""
    several = len(setting.runs) > 1
    failing = [html.escape(one) for one in failed_calls(setting.rows)]
    trained = [(run.name, run.trained and run.trained.warning()) for run in setting.runs]
    return failing + [
        html.escape(f"{name}: {one}" if several else one) for name, one in trained if one
    ]


def _ends(setting: Setting) -> str:
    return RANGES if setting.seeds > 1 else INTERVALS


def _how_to_read(found: Sequence[Setting]) -> str:
    small = {
        INTERVALS: "the 95% bootstrap interval over tasks",
        RANGES: "the lowest and the highest seed, below the mean of seeds",
    }
    meaning = " or ".join(dict.fromkeys(small[_ends(setting)] for setting in found))
    several = " Rewards compare within a run only." if len(found) > 1 else ""
    return (
        "Means over the episodes of the held-out tasks, with the same tasks, toolsets and seeds for"
        f" every row of a run. Small figures are {meaning}.{several}"
    )


def _policies(found: Sequence[Setting], families: Sequence[str], whole: bool) -> str:
    """Returns a row for each policy: accuracy by family, in a whole table all figures."""
    rows = [one for setting in found for one in setting.rows.values()]
    columns = {name: _family(name) for name in families}
    if whole:
        columns |= _amounts(rows, "Overall, %" if families else "Accuracy, %")
    body: list[Row | str] = []
    for setting in found:
        body += [setting.label] if len(found) > 1 else []
        own = subject(setting.rows)
        for name, one in setting.rows.items():
            cells = [cell(one) for cell in columns.values()]
            body.append(Row(name, cells, "own rule" if name == own else ""))
    return table(["Policy", *columns], body)


def _family(name: str) -> Callable[[Summary], Cell]:
    def cell(one: Summary) -> Cell:
        found = one.by_family.get(name)
        if found is None:
            return Cell(UNKNOWN)
        return Cell(PERCENT.text(found.accuracy), PERCENT.interval(found.accuracy_ci95))

    return cell


def _amounts(rows: Sequence[Summary], accuracy: str) -> dict[str, Callable[[Summary], Cell]]:
    """Returns the columns of every table, and the optional ones that have any figure."""
    cost, time = money([one.cost_usd for one in rows]), seconds([one.latency_s for one in rows])
    columns: dict[str, Callable[[Summary], Cell]] = {
        accuracy: lambda one: Cell(PERCENT.text(one.accuracy), PERCENT.interval(one.accuracy_ci95)),
        f"Cost, {cost.symbol}": lambda one: Cell(
            cost.text(one.cost_usd), cost.interval(one.cost_usd_ci95)
        ),
        f"Latency, {time.symbol}": lambda one: Cell(
            time.text(one.latency_s), time.interval(one.latency_s_ci95)
        ),
        f"{P50_P95}, {time.symbol}": lambda one: Cell(
            f"{time.text(one.latency_p50_s)} / {time.text(one.latency_p95_s)}"
        ),
        "Reward": lambda one: Cell(REWARD.text(one.reward), REWARD.interval(one.reward_ci95)),
        "Preference score": lambda one: Cell(
            REWARD.text(one.preference_score), REWARD.interval(one.preference_score_ci95)
        ),
        "Turns": lambda one: Cell(TURNS.text(one.turns)),
        "Failed calls, %": _failed,
    }
    if not any(one.failed for one in rows):
        del columns["Failed calls, %"]
    if all(one.latency_p50_s is None for one in rows):
        del columns[f"{P50_P95}, {time.symbol}"]
    if all(one.preference_score is None for one in rows):
        del columns["Preference score"]
    return columns


def _failed(one: Summary) -> Cell:
    """Returns the share of failed calls, with the most frequent class of fault below it."""
    notes = (one.failed_mostly,) if one.failed else ()
    return Cell("ALL" if one.failed_share >= ALL_FAILED else PERCENT.text(one.failed_share), notes)


def against(found: Sequence[Setting]) -> str:
    """Returns a card with the policy of each setting against every other one, or ""."""
    tables = [_against(setting, len(found) > 1) for setting in found if len(setting.rows) > 1]
    if not tables:
        return ""
    note = (
        "Differences are the policy’s figures minus those of the row: “outside both” if the mean"
        " reward of each lies outside the small figures of the other. The last column is the"
        " policy’s mean cost at the row’s accuracy, in a mixture of two policies: the policy on a"
        " random share of the tasks, the cheapest one on the rest; its interval is below it."
    )
    return element(
        "section",
        element("h2", "Against each other policy"),
        *tables,
        element("p", note, class_="soft"),
        class_="card",
    )


def _against(setting: Setting, named: bool) -> str:
    rows, own = setting.rows, subject(setting.rows)
    mine = rows[own]
    others = {name: one for name, one in rows.items() if name != own}
    points = {key: Tradeoff(row.cost_usd, row.accuracy) for key, row in rows.items()}
    equal = {name: equal_cost(points, own, name) for name in others}
    cheapest = cheapest_of(points)
    cost = money([*(one.cost_usd for one in rows.values()), *filter(None, equal.values())])
    body = []
    for name, comparison in compare_all(rows).items():
        one = others[name]
        cells = [
            Cell(
                signed(REWARD, comparison.difference),
                ("outside both" if comparison.outside_both else "not shown",),
            ),
            Cell(signed(_POINTS, mine.accuracy - one.accuracy)),
            Cell(cost.text(one.cost_usd)),
            _equal(setting, name, cheapest, equal[name], cost),
        ]
        body.append(Row(name, cells))
    headings = (
        f"{own.capitalize()} against",
        "Reward",
        "Accuracy, points",
        f"Its cost, {cost.symbol}",
        f"At equal accuracy, {cost.symbol}",
    )
    title = element("h3", html.escape(setting.label)) if named else ""
    return title + table(headings, body)


def _equal(
    setting: Setting, name: str, cheapest: str, equal_usd: float | None, cost: Measure
) -> Cell:
    rows, one = setting.rows, setting.rows[name]
    if equal_usd is not None:
        share = [f"{equal_usd / one.cost_usd:,.0%} of its cost"] if one.cost_usd > 0.0 else []
        ends = cost.interval(setting.equal_cost_usd_ends(name))
        return Cell(cost.text(equal_usd), (*ends, *share))
    if one.accuracy > rows[cheapest].accuracy:
        return Cell("not reached")
    return Cell(UNKNOWN, () if name == cheapest else (f"{cheapest} is enough",))


def side_by_side(found: Sequence[Setting]) -> str:
    """Returns a card with a row for each run, or "" for a single run."""
    runs = [run for setting in found for run in setting.runs]
    if len(runs) < 2:
        return ""
    rows = [run.rows[subject(run.rows)] for run in runs if run.rows]
    cost, time = money([one.cost_usd for one in rows]), seconds([one.latency_s for one in rows])
    spent = money([run.spent_usd for run in runs if run.spent_usd is not None])
    columns: dict[str, Callable[[Run], Cell]] = {
        "Seed": lambda run: Cell(run.seed or UNKNOWN),
        "Accuracy, %": _evaluated("accuracy", PERCENT),
        f"Cost, {cost.symbol}": _evaluated("cost_usd", cost),
        f"Latency, {time.symbol}": _evaluated("latency_s", time),
        "Reward": _evaluated("reward", REWARD),
        "Steps": lambda run: Cell(f"{len(run.metrics.steps_N):,}"),
        "Episodes trained": lambda run: Cell(_trained_of(run)),
        "Wall time": lambda run: Cell(UNKNOWN if run.wall_s is None else duration(run.wall_s)),
        f"Spent, {spent.symbol}": lambda run: Cell(spent.text(run.spent_usd)),
    }
    if all(run.trained is None for run in runs):
        del columns["Episodes trained"]
    if all(run.spent_usd is None for run in runs):
        del columns[f"Spent, {spent.symbol}"]
    body: list[Row | str] = []
    for setting in found:
        body += [setting.label] if len(found) > 1 else []
        body += [Row(run.name, [cell(run) for cell in columns.values()]) for run in setting.runs]
    note = "The policy of each run, with its 95% bootstrap interval over tasks."
    return element(
        "section",
        element("h2", "Runs side by side"),
        element("p", note),
        table(["Run", *columns], body),
        class_="card",
    )


def _trained_of(run: Run) -> str:
    known = run.trained
    if known is None:
        return UNKNOWN
    of = "" if known.dispatched is None else f" of {known.dispatched:,}"
    return f"{known.episodes:,}{of}"


def _evaluated(name: str, measure: Measure) -> Callable[[Run], Cell]:
    def cell(run: Run) -> Cell:
        if not run.rows:
            return Cell(UNKNOWN)
        one = run.rows[subject(run.rows)]
        return Cell(
            measure.text(getattr(one, name)), measure.interval(getattr(one, f"{name}_ci95"))
        )

    return cell
