"""Section 3 of the study's page: whether one policy does what each of its users asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

import numpy as np
from study_runs import Episodes, Study
from study_tables import spread, table

from orchestra_ray.core.money import usd
from orchestra_ray.evaluation.measured import Measured
from orchestra_ray.evaluation.preference_score import feature_row, preference_score, weight_row

USERS = ("frugal", "quick", "exact")  # the preferences of the quick start


def user_arm(arm: str, user: str) -> str:
    """The arm that measures the policy of `arm` with all tasks under one preference."""
    return f"{arm}_{user}"


def preferences(study: Study) -> str:
    rows, kept = _moved(study, "ours", "with preferences")
    rows += _moved(study, "no_preference", "without")[0]
    seeds = study.ended("ours", "no_preference")
    if seeds:
        with_them, without = zip(*(preference_scores(study, seed) for seed in seeds), strict=True)
        above = sum(a > b for a, b in zip(with_them, without, strict=True))
        score = f"""Over {study.over("ours", "no_preference")} it is {spread(with_them, 2)} with
preferences and {spread(without, 2)} without; higher with them in {above} of {len(seeds)} seeds."""
    else:
        score = "No seed of `no_preference` ended."
    head = ("policy: user", "accuracy, points", "cost, %", "latency, %", "calls to dear models")
    return f"""## 3. One policy, several preferences

The same policy on the same held-out tasks and draws, once for each user; below it a policy that was
trained on the same instructions with one reward for all. A cell is what a user gets against the
mean of what the others get: accuracy in points, cost and latency in %, the share of the calls to
models that go to the dear ones (priced above the catalogue's mean) in points, and in how many seeds
it moved the way that is asked for. Bold is what the user asks for: a weight of outcome, cost or
latency above the others' mean, and with that of cost, fewer dear calls.

{table(head, rows)}

{_verdict(kept)}

The preference score (Eq. 5 and 6, cents and seconds, mean over tasks) is that of both policies
under the wishes of `ours`, from the policy before training of `ours`. {score}"""


def _verdict(kept: Sequence[bool]) -> str:
    shown = "shown" if kept and all(kept) else "not shown"
    return f"{sum(kept)} of {len(kept)} bold cells moved so in every seed: {shown}."


def preference_scores(study: Study, seed: int) -> tuple[float, float]:
    """Of `ours` and of `no_preference`, by one ruler."""
    start = study.episodes("ours", seed, "before")
    players = [study.episodes(arm, seed, "after") for arm in ("ours", "no_preference")]
    wishes = study.wishes("ours", seed)
    numbers = [n for n in start if all(n in episodes for episodes in players)]
    names = sorted({name for wish in wishes.values() for name in wish.tools})

    def features(episodes: Episodes) -> np.ndarray:
        found = [episodes[n] for n in numbers]
        return np.array(
            [feature_row(names, e.calls, e.correct, e.price_nanousd, e.latency_s) for e in found]
        )

    def score(episodes: Episodes) -> float:
        weights = np.array([weight_row(names, wishes[n]) for n in numbers])
        correct = np.array([episodes[n].correct for n in numbers])
        return preference_score(features(episodes), features(start), weights, correct).mean

    return score(players[0]), score(players[1])


def _moved(study: Study, arm: str, label: str) -> tuple[list[list[str]], list[bool]]:
    """A row a user: how far what the policy does for them lies from what it does for the others.

    And of each amount that a user asks to be moved, whether it was in every seed.
    """
    seeds = study.ended(*(user_arm(arm, user) for user in USERS))
    if not seeds:
        return [], []
    wishes = {one.name: one for one in study.world("ours", study.ended("ours")[0]).preferences}
    found = [{user: _played(study, arm, user, seed) for user in USERS} for seed in seeds]
    rows, kept = [], []
    for user in USERS:
        others = [other for other in USERS if other != user]
        more = {
            name: getattr(wishes[user], name) > fmean(getattr(wishes[o], name) for o in others)
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
        kept += [move.kept() == len(seeds) for move in moves if move.is_asked]
    return rows, kept


def _change(own: float, others: float) -> float:
    return own / others - 1 if others else 0.0


@dataclass(frozen=True, slots=True)
class Move:
    """How far an amount moved, by seed. way: 1 where more of it is better, else -1."""

    changes: Sequence[float]
    way: int
    is_asked: bool

    def kept(self) -> int:
        """In how many seeds it moved the better way."""
        return sum(self.way * change > 0 for change in self.changes)

    def cell(self) -> str:
        text = spread(self.changes, 0, 100, "+")
        if not self.is_asked:
            return text
        direction = "up" if self.way > 0 else "down"
        return f"**{text}, {direction} in {self.kept()} of {len(self.changes)}**"


class Played(NamedTuple):
    """Means over episodes; `dear_share` is that of the dear models among the calls to models."""

    accuracy: float
    usd: float
    seconds: float
    dear_share: float


def _mean(several: Sequence[Played]) -> Played:
    return Played(*(fmean(column) for column in zip(*several, strict=True)))


def _played(study: Study, arm: str, user: str, seed: int) -> Played:
    models = study.world("ours", study.ended("ours")[0]).catalogue.models
    prices = {name: entry.prices.output_nanousd_per_mtok for name, entry in models.items()}
    dear = {name for name, price in prices.items() if price > fmean(prices.values())}
    found = list(study.episodes(user_arm(arm, user), seed, "policy").values())
    return Played(
        fmean(one.correct for one in found),
        fmean(usd(one.price_nanousd) for one in found),
        fmean(one.latency_s for one in found),
        _calls(found, dear) / max(1, _calls(found, set(models))),
    )


def _calls(episodes: Sequence[Measured], names: set[str]) -> int:
    return sum(count for one in episodes for name, count in one.calls.items() if name in names)
