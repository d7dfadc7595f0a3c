"""Section 3 of the study's page: whether one policy follows each of its users."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from study_runs import Study
from study_tables import ROUTERS, spread, table

from orchestra_ray.core.money import usd
from orchestra_ray.evaluation.episode_log import EvalEpisode
from orchestra_ray.evaluation.summary import Summary

USERS = ("frugal", "quick", "exact")  # the preferences of the quick start
LABELS = {
    "ours": "with preferences",
    "no_preference": "without: one reward for all",
    "outcome": "without: only right answers",
}


def user_arm(arm: str, user: str) -> str:
    """Returns the arm that evaluates the policy of `arm` with all tasks under one preference."""
    return f"{arm}_{user}"


def preferences(study: Study) -> str:
    own, kept = _moved(study, "ours", "with preferences")
    without, kept_without = _moved(study, "no_preference", "without")
    head = ("policy: user", "accuracy, points", "cost, %", "latency, %", "calls to dear models")
    return f"""## 3. One policy, several preferences

The same policy on the same held-out tasks and toolsets, once for each user; below it a policy
trained on the same instructions with one reward for all. An entry is the difference between a
user's result and the mean of the other users: accuracy in points, cost and latency in %, and the
share of dear models (priced above the catalogue's mean) among the calls to models in points. Bold
marks the user's intent, with the number of seeds that moved as intended: a weight of outcome, cost
or latency above the others' mean and, with that of cost, fewer calls to dear models.

{table(head, [*own, *without])}

With preferences {_verdict(kept)}. Without them {_verdict(kept_without)}.

{_scores(study)}"""


def _verdict(kept: Sequence[bool]) -> str:
    shown = "shown" if kept and all(kept) else "not shown"
    return f"{sum(kept)} of {len(kept)} bold entries moved as intended in every seed: {shown}"


def _scores(study: Study) -> str:
    """Scores of policies trained with and without preferences, under the users of `ours`."""
    seeds = study.ended("ours", "no_preference", "outcome")
    if not seeds:
        return "The preference score: no seed of `no_preference` and `outcome` ended."
    policies = {arm: (arm, "after") for arm in LABELS} | {"start": ("ours", "before")}
    policies |= {name: ("ours", name) for name in ROUTERS}

    def summaries(user: str | None = None) -> list[Mapping[str, Summary]]:
        return [study.together(seed, policies, user) for seed in seeds]

    everyone, alone = summaries(), {user: summaries(user) for user in USERS}
    rows = [
        [
            label,
            *(
                spread([_score(one[arm]) for one in found], 2)
                for found in (everyone, *alone.values())
            ),
            spread([one[arm].reward for one in everyone], 3),
        ]
        for arm, label in LABELS.items()
    ]
    higher = sum(_score(one["ours"]) > _score(one["no_preference"]) for one in everyone)
    better = sum(one["ours"].reward > one["no_preference"].reward for one in everyone)
    quick = _part_of_quick(study, seeds, everyone, alone["quick"])
    head = ("policy", "score: all", *USERS, "reward: all")
    return f"""The preference score (Eq. 5 and 6, cents and seconds, mean over tasks) and the reward
(Eq. 1 and 2, in one comparison of these policies and the routers), all under the preferences of
`ours` and relative to its policy before training:

{table(head, rows)}

Over {study.over("ours", "no_preference", "outcome")} the score is higher with preferences than with
one reward for all in {higher} of {len(seeds)} seeds, the reward in {better} of {len(seeds)}.
Criterion: a higher score in every seed. Result: {"shown" if higher == len(seeds) else "not shown"}.
Eq. 5 divides the seconds of the start by the policy's, without a bound: the tasks of the quick
users make {quick:.0%} of the score with preferences here, so it says little about the other
users."""


def _part_of_quick(
    study: Study,
    seeds: Sequence[int],
    everyone: Sequence[Mapping[str, Summary]],
    quick: Sequence[Mapping[str, Summary]],
) -> float:
    """Returns the fraction that quick users' tasks contribute to the score with preferences."""
    users = [[g.preference.name for g in study.groups("ours", seed).values()] for seed in seeds]
    shares = [names.count("quick") / len(names) for names in users]
    return fmean(
        share * _score(own["ours"]) / _score(all_["ours"])
        for share, own, all_ in zip(shares, quick, everyone, strict=True)
    )


def _score(summary: Summary) -> float:
    assert summary.preference_score is not None
    return summary.preference_score


def _moved(study: Study, arm: str, label: str) -> tuple[list[list[str]], list[bool]]:
    """Returns a row for each user, with the differences from the mean of the other users.

    Also, for each intended difference, whether every seed has it.
    """
    seeds = study.ended(*(user_arm(arm, user) for user in USERS))
    if not seeds:
        return [], []
    intents = {one.name: one for one in study.inputs("ours", study.ended("ours")[0]).preferences}
    found = [{user: _means(study, arm, user, seed) for user in USERS} for seed in seeds]
    rows, kept = [], []
    for user in USERS:
        others = [other for other in USERS if other != user]
        more = {
            name: getattr(intents[user], name) > fmean(getattr(intents[o], name) for o in others)
            for name in ("outcome", "cost", "latency")
        }
        pairs = [(f[user], _mean([f[other] for other in others])) for f in found]
        moves = [
            Move([own.accuracy - rest.accuracy for own, rest in pairs], 1, more["outcome"]),
            Move([_change(own.usd, rest.usd) for own, rest in pairs], -1, more["cost"]),
            Move([_change(own.seconds, rest.seconds) for own, rest in pairs], -1, more["latency"]),
            Move([own.dear_share - rest.dear_share for own, rest in pairs], -1, more["cost"]),
        ]
        rows.append([f"{label}: {user}", *(move.cell() for move in moves)])
        kept += [move.kept() == len(seeds) for move in moves if move.is_intended]
    return rows, kept


def _change(own: float, others: float) -> float:
    return own / others - 1 if others else 0.0


@dataclass(frozen=True, slots=True)
class Move:
    """Differences of an amount, by seed. way: 1 if more of it is better, else -1."""

    changes: Sequence[float]
    way: int
    is_intended: bool

    def kept(self) -> int:
        """Returns the number of seeds with a difference in the better direction."""
        return sum(self.way * change > 0 for change in self.changes)

    def cell(self) -> str:
        text = spread(self.changes, 0, 100, "+")
        if not self.is_intended:
            return text
        direction = "up" if self.way > 0 else "down"
        return f"**{text}, {direction} in {self.kept()} of {len(self.changes)}**"


class Means(NamedTuple):
    """Means over episodes; `dear_share`: of dear models among the calls to models."""

    accuracy: float
    usd: float
    seconds: float
    dear_share: float


def _mean(several: Sequence[Means]) -> Means:
    return Means(*(fmean(column) for column in zip(*several, strict=True)))


def _means(study: Study, arm: str, user: str, seed: int) -> Means:
    models = study.inputs("ours", study.ended("ours")[0]).catalogue.models
    prices = {name: entry.prices.output_nanousd_per_mtok for name, entry in models.items()}
    dear = {name for name, price in prices.items() if price > fmean(prices.values())}
    found = list(study.episodes(user_arm(arm, user), seed, "policy").values())
    return Means(
        fmean(one.correct for one in found),
        fmean(usd(one.price_nanousd) for one in found),
        fmean(one.latency_s for one in found),
        _calls(found, dear) / max(1, _calls(found, set(models))),
    )


def _calls(episodes: Sequence[EvalEpisode], names: set[str]) -> int:
    return sum(count for one in episodes for name, count in one.calls.items() if name in names)
