"""Section 1 of the study's page: the policy against every expert alone, by user too."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from study_preferences import USERS, user_arm
from study_runs import Study
from study_tables import (
    HEAD,
    after,
    baseline,
    before,
    paired_interval,
    policy_row,
    spread,
    table,
)

from orchestra_ray.core.policy_names import EXPERT

COST_SHARE = 0.4  # of the expert's cost: the criterion of the study
_HEAD = ("expert", "accuracy, points from the expert's", "95% interval", "cost, % of the expert's")


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
    by_expert = [
        [name.removeprefix(EXPERT), *_against(study, name, seeds, "ours", "after").cells()]
        for name in names
    ]
    by_seed = [
        [str(seed), f"{100 * gain:+.1f}", f"{100 * cost:.1f}"]
        for seed, gain, cost in zip(seeds, found.gains, found.costs, strict=True)
    ]
    return f"""## 1. Against every expert alone

The strongest expert alone is {best.removeprefix(EXPERT)}. Over {study.over("ours")} the policy's
accuracy is {spread(found.gains, 1, 100, "+")} points from the expert's, 95% interval
{found.interval()} (paired bootstrap over tasks, the seeds pooled), at
{spread(found.costs, 1, 100)} % of its cost. Criterion: more accuracy at {COST_SHARE:.0%} of the
cost or less. Result: {found.verdict()}.

{table(("seed", "accuracy, points from the expert's", "cost, % of the expert's"), by_seed)}

{table(HEAD, rows)}

Against each of them:

{table(_HEAD, by_expert)}

{_by_user(study, best)}"""


def _by_user(study: Study, best: str) -> str:
    rows = []
    for user in USERS:
        arm = user_arm("ours", user)
        seeds = study.ended("ours", arm)
        if seeds:
            rows.append([user, *_against(study, best, seeds, arm, "policy").cells()])
    intents = [g.preference for g in study.groups("ours", study.ended("ours")[0]).values()]
    quick = [intent for intent in intents if intent.name == "quick"]
    return f"""These are means over users, and not all users ask for the most accurate answer:
the quick ones, {len(quick) / len(intents):.0%} of the tasks, give time a weight of
{quick[0].latency:g} and a right answer {quick[0].outcome:g}. The same policy with all tasks under
one user, against {best.removeprefix(EXPERT)} on the same tasks and toolsets:

{table(("user", *_HEAD[1:]), rows)}"""


@dataclass(frozen=True, slots=True)
class Against:
    """A policy against an expert on the same tasks: by seed, and over the pooled seeds."""

    gains: Sequence[float]  # of accuracy
    low: float
    high: float
    costs: Sequence[float]  # as a fraction of the expert's

    def interval(self) -> str:
        return f"[{100 * self.low:+.1f}, {100 * self.high:+.1f}]"

    def cells(self) -> list[str]:
        """Returns the columns of _HEAD after the first."""
        gains, costs = spread(self.gains, 1, 100, "+"), spread(self.costs, 1, 100)
        return [gains, self.interval(), costs]

    def verdict(self) -> str:
        short = [] if self.low > 0 else ["the interval does not lie above 0"]
        short += [] if fmean(self.costs) <= COST_SHARE else ["the cost is higher"]
        return f"not shown, since {' and '.join(short)}" if short else "shown"


def _against(study: Study, best: str, seeds: Sequence[int], arm: str, policy: str) -> Against:
    gains, costs = [], []
    for seed in seeds:
        mine, theirs = study.episodes(arm, seed, policy), study.episodes("ours", seed, best)
        both = sorted(set(mine) & set(theirs))
        gains.append({n: float(mine[n].correct) - float(theirs[n].correct) for n in both})
        spent = [sum(episodes[n].price_nanousd for n in both) for episodes in (mine, theirs)]
        costs.append(spent[0] / spent[1])
    means = [fmean(found.values()) for found in gains]
    return Against(means, *paired_interval(gains), costs)


def _is_expert(name: str) -> bool:
    return name.startswith(EXPERT)
