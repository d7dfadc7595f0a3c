"""docs/results.md from the runs of the study: every number is read from a run's own files.

A cell is the mean over seeds, with the lowest and the highest seed in brackets. Means are over the
seeds that ended, in a comparison of two arms over those where both did; a run that failed is named.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from study_runs import FAILED, Episodes, Pick, Row, Study

from orchestra_ray.core.money import usd
from orchestra_ray.core.players import EXPERT
from orchestra_ray.evaluation.measured import Measured
from orchestra_ray.evaluation.preference_score import feature_row, preference_score, weight_row

RESAMPLES = 10_000
COST_SHARE, REWARD_SHARE = 0.4, 0.9  # what the study is to show


def render(study: Study) -> str:
    """The page. Raises ValueError where no seed of `ours` ended: all is compared with it."""
    if not study.ended("ours"):
        raise ValueError(f"{study.runs}: no seed of `ours` ended; its {FAILED} says why")
    released = (
        "The preset `released` computes what the published code does: right answers are worth more"
        " the dearer and the slower they were."
    )
    outcome = "The same instructions, and only right answers are rewarded."
    sections = [
        _head(study),
        _accuracy(study),
        _oracle(study),
        _preferences(study),
        _unseen(study),
        _ablation(study, "released", "5. The released code's rewards", released),
        _ablation(study, "outcome", "6. Without the efficiency reward", outcome),
        _seeds(study),
    ]
    return "\n\n".join(sections) + "\n"


def before(summary: Mapping[str, Any]) -> Row:
    return summary["before"]


def after(summary: Mapping[str, Any]) -> Row:
    return summary["after"] if "after" in summary else summary["policy"]


def baseline(name: str) -> Pick:
    return lambda summary: summary["baselines"][name]


def spread(values: Sequence[float], places: int, factor: float = 1.0, sign: str = "") -> str:
    low, mean, high = (factor * value for value in (min(values), fmean(values), max(values)))
    form = f"{sign}.{places}f"
    return f"{mean:{form}} ({low:{form}} to {high:{form}})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def paired_interval(differences: Mapping[int, Sequence[float]]) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of the mean: tasks are resampled with all seeds."""
    sums_P = np.array([sum(found) for found in differences.values()], np.float64)
    counts_P = np.array([len(found) for found in differences.values()])
    picks_B_P = np.random.default_rng(0).integers(0, len(sums_P), (RESAMPLES, len(sums_P)))
    means_B = sums_P[picks_B_P].sum(axis=1) / counts_P[picks_B_P].sum(axis=1)
    low, high = np.percentile(means_B, [2.5, 97.5])
    return float(low), float(high)


HEAD = ("policy", "accuracy, %", "cost, cents", "latency, s", "turns", "reward")


def policy_row(name: str, rows: Sequence[Row]) -> list[str]:
    return [
        name,
        spread([row["accuracy"] for row in rows], 1, 100),
        spread([row["cost_usd"] for row in rows], 3, 100),
        spread([row["latency_s"] for row in rows], 1),
        spread([row["turns"] for row in rows], 2),
        spread([row["reward"] for row in rows], 3),
    ]


def _head(study: Study) -> str:
    config, world = study.config(), study.world("ours", study.ended("ours")[0])
    tasks = sorted({study.summary("ours", seed)["tasks"] for seed in study.ended("ours")})
    failed = sum(len(study.seeds) - len(study.ended(arm)) for arm in study.arms)
    runs = len(study.arms) * len(study.seeds)
    return f"""# Results in miniature

`make study` makes this page from its runs' own files. A policy of {study.parameters():,}
parameters, {len(config.tasks.families)} families of reasoning-gym, {len(world.catalogue.models)}
simulated experts, {config.training.steps} steps of {config.training.groups_per_step} groups of
{config.training.group_size} episodes: it shows that the method does here what the paper says, and
nothing of how large models do. {len(study.seeds)} seeds of policy and training,
{" or ".join(map(str, tasks))} held-out tasks each; a cell is the mean over the seeds that ended,
the lowest and the highest seed in brackets. {runs - failed} of {runs} runs ended; the last section
names those that failed. Nothing was tuned on the held-out tasks. The runs took
{study.wall_s() / 60:.0f} minutes in all."""


def _accuracy(study: Study) -> str:
    seeds = study.ended("ours")
    experts = [n for n in study.summary("ours", seeds[0])["baselines"] if n.startswith(EXPERT)]
    alone = {name: study.rows("ours", baseline(name)) for name in experts}
    best = max(alone, key=lambda name: fmean(row["accuracy"] for row in alone[name]))
    own = study.rows("ours", after)
    costs = [a["cost_usd"] / b["cost_usd"] for a, b in zip(own, alone[best], strict=True)]
    gains, pooled = [], {}
    for seed in seeds:
        mine, theirs = (study.episodes("ours", seed, name) for name in ("after", best))
        found = {n: float(mine[n].correct) - float(theirs[n].correct) for n in mine}
        gains.append(fmean(found.values()))
        for n, value in found.items():
            pooled.setdefault(n, []).append(value)
    low, high = paired_interval(pooled)
    rows = [
        policy_row("before training", study.rows("ours", before)),
        policy_row("**after training**", own),
        *(policy_row(name.removeprefix(EXPERT), rows) for name, rows in alone.items()),
    ]
    by_seed = [
        [str(seed), f"{100 * gain:+.1f}", f"{100 * cost:.1f}"]
        for seed, gain, cost in zip(seeds, gains, costs, strict=True)
    ]
    short = [] if low > 0 else ["the interval does not lie above 0"]
    short += [] if fmean(costs) <= COST_SHARE else ["the cost is higher"]
    return f"""## 1. Against every expert alone

The strongest expert alone is {best.removeprefix(EXPERT)}. Over {study.over("ours")} the policy's
accuracy is {spread(gains, 1, 100, "+")} points from the expert's, 95% interval
[{100 * low:+.1f}, {100 * high:+.1f}] (paired bootstrap over tasks, seeds pooled), at
{spread(costs, 1, 100)} % of its cost. To show was more accuracy at {COST_SHARE:.0%} of the cost or
less: {"not shown, for " + " and ".join(short) if short else "shown"}.

{table(("seed", "accuracy, points from the expert's", "cost, % of the expert's"), by_seed)}

{table(HEAD, rows)}"""


def _oracle(study: Study) -> str:
    own, oracle = study.rows("ours", after), study.rows("ours", baseline("oracle"))
    shares = [a["reward"] / b["reward"] for a, b in zip(own, oracle, strict=True)]
    names = ("random", "cheapest", "strongest", "oracle")
    rows = [
        policy_row("prompt-only (before training)", study.rows("ours", before)),
        policy_row("**after training**", own),
        *(policy_row(name, study.rows("ours", baseline(name))) for name in names),
    ]
    verdict = "above" if fmean(shares) > REWARD_SHARE else "short of"
    return f"""## 2. Against the oracle router

The oracle knows every expert's skill. Over {study.over("ours")} the policy has
{spread(shares, 1, 100)} % of its reward: {verdict} {REWARD_SHARE:.0%}. TRL's trainer was not run:
it has no episodes with tools that cost money.

{table(HEAD, rows)}"""


def _preferences(study: Study) -> str:
    parts = [_moved(study, "ours", "with preferences")]
    seeds = study.ended("ours", "no_preference")
    if seeds:
        parts.append(_moved(study, "no_preference", "without"))
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

{table(head, [row for rows in parts for row in rows])}

The preference score (Eq. 5 and 6, cents and seconds, mean over tasks) is that of both policies
under the wishes of `ours`, from the policy before training of `ours`. {score}"""


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


def _moved(study: Study, arm: str, label: str) -> list[list[str]]:
    """A row a preference: which way its episodes differ from the mean of the other preferences."""
    seeds = study.ended(arm)
    asked = {wish.name: wish for seed in seeds for wish in study.wishes(arm, seed).values()}
    found = [_by_wish(study, arm, seed) for seed in seeds]
    rows = []
    for name, wish in sorted(asked.items()):
        others = [other for other in asked.values() if other.name != name]
        pairs = [(f[name], [f[o.name] for o in others if o.name in f]) for f in found if name in f]
        means = [(own, [fmean(c) for c in zip(*rest, strict=True)]) for own, rest in pairs if rest]
        if not means:
            continue
        saves = wish.cost > fmean(other.cost for other in others)
        hurries = wish.latency > fmean(other.latency for other in others)
        rows.append(
            [
                f"{label}: {name}",
                spread([own[0] for own, _ in means], 1, 100),
                _way([_change(own[1], rest[1]) for own, rest in means], saves),
                _way([_change(own[2], rest[2]) for own, rest in means], hurries),
                _way([own[3] - rest[3] for own, rest in means], saves),
            ]
        )
    return rows


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


def gain_share(summary: Mapping[str, Any]) -> float:
    """How far from the random router's reward to the oracle's."""
    random, oracle = (summary["baselines"][name]["reward"] for name in ("random", "oracle"))
    return (after(summary)["reward"] - random) / (oracle - random)


def _unseen(study: Study) -> str:
    shares, parts = [], []
    for arm, label in (
        ("ours", "prices and experts of the training"),
        ("unseen_prices", "prices and latencies that no training draw has"),
        ("unseen_experts", "experts with other names, strengths and prices"),
    ):
        seeds = study.ended("ours", arm)
        if not seeds:
            shares.append([label, study.over(arm), "none ended", ""])
            continue
        seen, here = ([gain_share(study.summary(a, s)) for s in seeds] for a in ("ours", arm))
        left = f"{fmean(here) / fmean(seen):.0%}" if fmean(seen) > 0 else "nothing was gained"
        shares.append([label, study.over("ours", arm), spread(here, 1, 100), left])
        if arm != "ours":
            names = ("random", "cheapest", "strongest", "oracle")
            rows = [policy_row(name, study.rows(arm, baseline(name), "ours")) for name in names]
            own = policy_row("**trained policy**", study.rows(arm, after, "ours"))
            parts.append(f"With {label}:\n\n{table(HEAD, [own, *rows])}")
    head = ("world", "over", "gain, % of the oracle's", "what remains of the gain")
    return "\n\n".join(
        [
            "## 4. Unseen prices, unseen experts",
            "The gain is (own - random) / (oracle - random) of the rewards of one comparison; what"
            " remains is its mean over that in the world of the training.",
            table(head, shares),
            *parts,
        ]
    )


def _ablation(study: Study, arm: str, title: str, words: str) -> str:
    if not study.ended("ours", arm):
        return f"## {title}\n\n{words} No seed of it ended beside one of `ours`."
    own, other = study.rows("ours", after, arm), study.rows(arm, after, "ours")
    factors = [b["cost_usd"] / a["cost_usd"] for a, b in zip(own, other, strict=True)]
    # Without the reward: it is over a run's own comparison and does not compare across runs.
    rows = [policy_row(name, rows)[:-1] for name, rows in (("as the paper", own), (arm, other))]
    return f"""## {title}

{words} Over {study.over("ours", arm)} its policy costs {spread(factors, 1)} times as much.

{table(HEAD[:-1], rows)}"""


def _seeds(study: Study) -> str:
    rows, notes = [], []
    for arm in study.arms:
        for seed in study.seeds:
            name = f"{arm}, seed {seed}"
            if seed in study.ended(arm):
                rows.append([name, *_figures(study.summary(arm, seed))])
            else:
                rows.append([name, *["failed"] * 6])
                notes.append(f"- {name} failed: `{study.why_failed(arm, seed)}`")
    head = ("run", "accuracy before", "after", "reward before", "after", "strongest", "oracle")
    failed = "\n".join(notes) or "No run failed."
    return f"""## Every seed

{table(head, rows)}

{failed}

Configurations: `configs/quickstart.yaml`, `configs/study/` and `configs/presets/released.yaml`."""


def _figures(summary: Mapping[str, Any]) -> list[str]:
    """As in the head of the table; a run that only measures has nothing before."""
    start, own, others = summary.get("before"), after(summary), summary["baselines"]
    found = [
        start and start["accuracy"],
        own["accuracy"],
        start and start["reward"],
        own["reward"],
        others["strongest"]["reward"],
        others["oracle"]["reward"],
    ]
    return ["" if value is None else f"{value:.3f}" for value in found]
