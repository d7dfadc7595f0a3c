"""Section 3 of the study's page: whether one policy does what each of its users asks for."""

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
from study_runs import Episodes, Study
from study_tables import spread, table

from orchestra_ray.core.money import usd
from orchestra_ray.evaluation.measured import Measured
from orchestra_ray.evaluation.preference_score import feature_row, preference_score, weight_row


def preferences(study: Study) -> str:
    rows, kept = _moved(study, "ours", "with preferences")
    seeds = study.ended("ours", "no_preference")
    if seeds:
        rows += _moved(study, "no_preference", "without")[0]
        with_them, without = zip(*(preference_scores(study, seed) for seed in seeds), strict=True)
        above = sum(a > b for a, b in zip(with_them, without, strict=True))
        score = f"""Over {study.over("ours", "no_preference")} it is {spread(with_them, 2)} with
preferences and {spread(without, 2)} without; higher with them in {above} of {len(seeds)} seeds."""
    else:
        score = "No seed of `no_preference` ended."
    head = ("policy: user", "accuracy, %", "cost", "latency", "calls to dear models")
    return f"""## 3. One policy, several preferences

The same policy on tasks whose users ask for different things; below it a policy that was trained on
the same instructions with one reward for all. A cell is a preference's mean against the mean of the
others: cost and latency in %, the share of the calls to models that go to the dear ones (priced
above the catalogue's mean) in points, and in how many seeds it moved down. Bold is what the user
asks for: a weight of cost or latency above the others' mean, and with that of cost, fewer dear
calls.

{table(head, rows)}

{_verdict(kept)} A difference that both halves of the table have is that of the users' tasks.

The preference score (Eq. 5 and 6, cents and seconds, mean over tasks) is that of both policies
under the wishes of `ours`, from the policy before training of `ours`. {score}"""


def _verdict(kept: Sequence[bool]) -> str:
    shown = "shown" if all(kept) else "not shown"
    return f"{sum(kept)} of {len(kept)} bold cells moved down in every seed: {shown}."


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
    """A row a preference: which way its episodes differ from the mean of the other preferences.

    And of each amount that a user asks to be moved, whether it was in every seed.
    """
    seeds = study.ended(arm)
    asked = {wish.name: wish for seed in seeds for wish in study.wishes(arm, seed).values()}
    found = [_by_wish(study, arm, seed) for seed in seeds]
    rows, kept = [], []
    for name, wish in sorted(asked.items()):
        others = [other for other in asked.values() if other.name != name]
        pairs = [(f[name], [f[o.name] for o in others if o.name in f]) for f in found if name in f]
        means = [(own, [fmean(c) for c in zip(*rest, strict=True)]) for own, rest in pairs if rest]
        if not means:
            continue
        saves = wish.cost > fmean(other.cost for other in others)
        hurries = wish.latency > fmean(other.latency for other in others)
        amounts = (
            ([_change(own[1], rest[1]) for own, rest in means], saves),
            ([_change(own[2], rest[2]) for own, rest in means], hurries),
            ([own[3] - rest[3] for own, rest in means], saves),
        )
        accuracy = spread([own[0] for own, _ in means], 1, 100)
        rows.append([f"{label}: {name}", accuracy, *(_way(*amount) for amount in amounts)])
        kept += [max(changes) < 0 for changes, is_asked in amounts if is_asked]
    return rows, kept


def _change(own: float, others: float) -> float:
    return own / others - 1 if others else 0.0


def _way(changes: Sequence[float], is_asked: bool) -> str:
    """How far, and in how many seeds down; in bold where the user asks for it."""
    downs = sum(change < 0 for change in changes)
    text = f"{spread(changes, 0, 100, '+')}, down in {downs} of {len(changes)}"
    return f"**{text}**" if is_asked else text


def _by_wish(study: Study, arm: str, seed: int) -> Mapping[str, tuple[float, ...]]:
    """Accuracy, dollars, seconds and the share of dear models, by the preference's name."""
    models = study.world(arm, seed).catalogue.models
    prices = {name: entry.prices.output_nanousd_per_mtok for name, entry in models.items()}
    dear = {name for name, price in prices.items() if price > fmean(prices.values())}
    wishes, by_wish = study.wishes(arm, seed), {}
    for n, one in study.episodes(arm, seed, "after").items():
        by_wish.setdefault(wishes[n].name, []).append(one)
    return {
        name: (
            fmean(one.correct for one in found),
            fmean(usd(one.price_nanousd) for one in found),
            fmean(one.latency_s for one in found),
            _calls(found, dear) / max(1, _calls(found, set(models))),
        )
        for name, found in by_wish.items()
    }


def _calls(episodes: Sequence[Measured], names: set[str]) -> int:
    return sum(count for one in episodes for name, count in one.calls.items() if name in names)
