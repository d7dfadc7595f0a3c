"""Section 1 of the study's page: the policy against every expert alone, by user too."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from study_runs import Study
from study_tables import HEAD, after, baseline, before, paired_interval, policy_row, spread, table
from study_wishes import USERS, user_arm

from orchestra_ray.core.players import EXPERT

COST_SHARE = 0.4  # of the expert's: what the study is to show


def experts(study: Study) -> str:
    names = [n for n in study.summary("ours", study.ended("ours")[0])["baselines"] if _is_expert(n)]
    alone = {name: study.rows("ours", baseline(name)) for name in names}
    best = max(alone, key=lambda name: fmean(row["accuracy"] for row in alone[name]))
    seeds = study.ended("ours")
    found = _against(study, best, seeds, "ours", "after")
    rows = [
        policy_row("before training", study.rows("ours", before)),
        policy_row("**after training**", study.rows("ours", after)),
        *(policy_row(name.removeprefix(EXPERT), rows) for name, rows in alone.items()),
    ]
    by_seed = [
        [str(seed), f"{100 * gain:+.1f}", f"{100 * cost:.1f}"]
        for seed, gain, cost in zip(seeds, found.gains, found.costs, strict=True)
    ]
    return f"""## 1. Against every expert alone

The strongest expert alone is {best.removeprefix(EXPERT)}. Over {study.over("ours")} the policy's
accuracy is {spread(found.gains, 1, 100, "+")} points from the expert's, 95% interval
{found.interval()} (paired bootstrap over tasks, seeds pooled), at
{spread(found.costs, 1, 100)} % of its cost. To show was more accuracy at {COST_SHARE:.0%} of the
cost or less: {found.verdict()}.

{table(("seed", "accuracy, points from the expert's", "cost, % of the expert's"), by_seed)}

{table(HEAD, rows)}

{_by_user(study, best)}"""


def _by_user(study: Study, best: str) -> str:
    rows = []
    for user in USERS:
        arm = user_arm("ours", user)
        seeds = study.ended("ours", arm)
        if seeds:
            found = _against(study, best, seeds, arm, "policy")
            gains, costs = spread(found.gains, 1, 100, "+"), spread(found.costs, 1, 100)
            rows.append([user, gains, found.interval(), costs])
    asked = [g.preference for g in study.groups(study.ended("ours")[0]).values()]
    quick = [wish for wish in asked if wish.name == "quick"]
    head = ("user", "accuracy, points from the expert's", "95% interval", "cost, % of the expert's")
    return f"""These are means over users, and not all of them ask for the likeliest answer: to
the quick ones, {len(quick) / len(asked):.0%} of the tasks, time weighs {quick[0].latency:g} and a
right answer {quick[0].outcome:g}. The same policy with all of the tasks under one user, against the
same expert on the same tasks and draws:

{table(head, rows)}"""


@dataclass(frozen=True, slots=True)
class Against:
    """A policy against an expert on the same tasks: by seed, and over the pooled seeds."""

    gains: Sequence[float]  # of accuracy
    low: float
    high: float
    costs: Sequence[float]  # as a share of the expert's

    def interval(self) -> str:
        return f"[{100 * self.low:+.1f}, {100 * self.high:+.1f}]"

    def verdict(self) -> str:
        short = [] if self.low > 0 else ["the interval does not lie above 0"]
        short += [] if fmean(self.costs) <= COST_SHARE else ["the cost is higher"]
        return f"not shown, for {' and '.join(short)}" if short else "shown"


def _against(study: Study, best: str, seeds: Sequence[int], arm: str, policy: str) -> Against:
    gains, costs, pooled = [], [], {}
    for seed in seeds:
        mine, theirs = study.episodes(arm, seed, policy), study.episodes("ours", seed, best)
        both = sorted(set(mine) & set(theirs))
        found = {n: float(mine[n].correct) - float(theirs[n].correct) for n in both}
        gains.append(fmean(found.values()))
        spent = [sum(played[n].price_nanousd for n in both) for played in (mine, theirs)]
        costs.append(spent[0] / spent[1])
        for n, value in found.items():
            pooled.setdefault(n, []).append(value)
    return Against(gains, *paired_interval(pooled), costs)


def _is_expert(name: str) -> bool:
    return name.startswith(EXPERT)
