"""docs/results.md from the runs of the study: every number is read from a run's own files.

A cell is the mean over seeds, with the lowest and the highest seed in brackets.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from orchestra_ray.config import load
from orchestra_ray.core.money import usd
from orchestra_ray.driver.run import load_world
from orchestra_ray.evaluation.measured import FILE, EpisodeLog, Measured

Row = Mapping[str, Any]
Pick = Callable[[Mapping[str, Any]], Row]  # a row of a summary
EXPERT = "expert:"


def render(runs: Path, seeds: Sequence[int], minutes: float) -> str:
    study = Study(runs, seeds)
    sections = [
        _head(study, minutes),
        _accuracy(study),
        _oracle(study),
        _preferences(study),
        _unseen(study),
        _ablation(
            study,
            "released",
            "5. The released code's rewards",
            "The preset `released` computes what the published code does: right answers are worth"
            " more the dearer and the slower they were.",
        ),
        _ablation(
            study,
            "outcome",
            "6. Without the efficiency reward",
            "The same instructions, and only right answers are rewarded.",
        ),
        _seeds(study),
    ]
    return "\n\n".join(sections) + "\n"


class Study:
    """The runs by arm and seed."""

    def __init__(self, runs: Path, seeds: Sequence[int]):
        self.runs, self.seeds = runs, seeds

    @cache  # noqa: B019  # one study a process
    def summary(self, arm: str, seed: int) -> Mapping[str, Any]:
        return json.loads((self.runs / f"{arm}-{seed}" / "summary.json").read_text())

    def rows(self, arm: str, pick: Pick) -> list[Row]:
        return [pick(self.summary(arm, seed)) for seed in self.seeds]

    def episodes(self, arm: str, seed: int, policy: str) -> Mapping[int, Measured]:
        log = EpisodeLog(self.runs / f"{arm}-{seed}" / FILE)
        log.close()
        return log.done(policy)

    def wishes(self, arm: str, seed: int) -> Mapping[int, str]:
        """The name of each held-out task's preference."""
        config = load([self.runs / f"{arm}-{seed}" / "config.yaml"], [])
        heldout, numbers = load_world(config).heldout, range(config.evaluation.tasks)
        return {n: heldout.group(n, 1).preference.name for n in numbers}


def after(summary: Mapping[str, Any]) -> Row:
    return summary["after"] if "after" in summary else summary["policy"]


def baseline(name: str) -> Pick:
    return lambda summary: summary["baselines"][name]


def spread(values: Sequence[float], places: int, factor: float = 1.0) -> str:
    low, mean, high = (factor * value for value in (min(values), fmean(values), max(values)))
    return f"{mean:.{places}f} ({low:.{places}f} to {high:.{places}f})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


HEAD = ("policy", "accuracy, %", "cost, cents", "latency, s", "reward", "turns")


def policy_row(name: str, rows: Sequence[Row]) -> list[str]:
    return [
        name,
        spread([row["accuracy"] for row in rows], 1, 100),
        spread([row["cost_usd"] for row in rows], 3, 100),
        spread([row["latency_s"] for row in rows], 1),
        spread([row["reward"] for row in rows], 3),
        spread([row["turns"] for row in rows], 2),
    ]


def _head(study: Study, minutes: float) -> str:
    tasks = study.summary("ours", study.seeds[0])["tasks"]
    return f"""# Results in miniature

`make study` makes this page from its runs' own files. A policy of 1.06 million parameters, eight
families of reasoning-gym, simulated experts, two CPU cores: it shows that the method does here what
the paper says, and nothing of how large models do. {len(study.seeds)} seeds of policy and training,
{tasks} held-out tasks each; a cell is the mean over seeds, the lowest and the highest seed in
brackets. Nothing was tuned on the held-out tasks. The study took {minutes:.0f} minutes."""


def _accuracy(study: Study) -> str:
    experts = [
        name for name in study.summary("ours", study.seeds[0])["baselines"] if EXPERT in name
    ]
    alone = {name: study.rows("ours", baseline(name)) for name in experts}
    best = max(alone, key=lambda name: fmean(row["accuracy"] for row in alone[name]))
    own, theirs = study.rows("ours", after), alone[best]
    share = fmean(row["cost_usd"] for row in own) / fmean(row["cost_usd"] for row in theirs)
    above = sum(a["accuracy"] > b["accuracy"] for a, b in zip(own, theirs, strict=True))
    rows = [
        policy_row("before training", study.rows("ours", lambda summary: summary["before"])),
        policy_row("**after training**", own),
        *(policy_row(name.removeprefix(EXPERT), rows) for name, rows in alone.items()),
    ]
    return f"""## 1. Against every expert alone

The strongest expert alone is {best.removeprefix(EXPERT)}. The policy is more accurate in {above} of
{len(own)} seeds, at {share:.1%} of its cost. The paper asks for more accuracy at 40% of the cost or
less.

{table(HEAD, rows)}"""


def _oracle(study: Study) -> str:
    own, oracle = study.rows("ours", after), study.rows("ours", baseline("oracle"))
    shares = [a["reward"] / b["reward"] for a, b in zip(own, oracle, strict=True)]
    names = ("random", "cheapest", "strongest", "oracle")
    rows = [
        policy_row("prompt-only (before training)", study.rows("ours", lambda s: s["before"])),
        policy_row("**after training**", own),
        *(policy_row(name, study.rows("ours", baseline(name))) for name in names),
    ]
    verdict = "above" if fmean(shares) > 0.9 else "short of"
    return f"""## 2. Against the oracle router

The oracle knows every expert's skill. The policy has {spread(shares, 1, 100)} % of its reward:
{verdict} 90%. TRL's trainer was not run: it has no episodes with tools that cost money.

{table(HEAD, rows)}"""


def _preferences(study: Study) -> str:
    rows = []
    for arm, label in (("ours", "with preferences"), ("no_preference", "without")):
        by_wish: dict[str, list[list[Measured]]] = {}
        for seed in study.seeds:
            wishes, episodes = study.wishes(arm, seed), study.episodes(arm, seed, "after")
            for wish in sorted(set(wishes.values())):
                mine = [one for n, one in episodes.items() if wishes[n] == wish]
                by_wish.setdefault(wish, []).append(mine)
        for wish, seeds in by_wish.items():
            rows.append([f"{label}: {wish}", *_asked(seeds)])
    scores = {
        arm: [row["preference_score"] for row in study.rows(arm, after)]
        for arm in ("ours", "no_preference")
    }
    return f"""## 3. One policy, three preferences

The same policy on tasks whose users ask it to spend little (frugal), to be quick, or to be right
(exact); below it a policy that was trained on the same instructions with one reward for all. Tool
shares are of the calls. The preference score (Eq. 5 and 6, cents and seconds, mean over tasks) is
{spread(scores["ours"], 2)} with preferences and {spread(scores["no_preference"], 2)} without.

{table(("policy: user", "accuracy, %", "cost, cents", "latency, s", "calls most to"), rows)}"""


def _asked(seeds: Sequence[Sequence[Measured]]) -> list[str]:
    """Accuracy, cost, latency and the three most called, of one preference's episodes by seed."""
    counts: dict[str, int] = {}
    for one in (one for episodes in seeds for one in episodes):
        for name, count in one.calls.items():
            counts[name] = counts.get(name, 0) + count
    total = max(1, sum(counts.values()))
    most = sorted(counts, key=lambda name: -counts[name])[:3]
    return [
        spread([fmean(one.correct for one in episodes) for episodes in seeds], 1, 100),
        spread([fmean(usd(one.price_nanousd) for one in episodes) for episodes in seeds], 3, 100),
        spread([fmean(one.latency_s for one in episodes) for episodes in seeds], 1),
        ", ".join(f"{name} {counts[name] / total:.0%}" for name in most),
    ]


def _unseen(study: Study) -> str:
    parts = []
    for arm, label in (
        ("unseen_prices", "prices and latencies that no training draw has"),
        ("unseen_experts", "experts with other names, strengths and prices"),
    ):
        own = study.rows(arm, after)
        strongest, oracle = (study.rows(arm, baseline(n)) for n in ("strongest", "oracle"))
        shares = [a["reward"] / b["reward"] for a, b in zip(own, oracle, strict=True)]
        rows = [
            policy_row("**trained policy**", own),
            *(policy_row(n, study.rows(arm, baseline(n))) for n in ("random", "cheapest")),
            policy_row("strongest", strongest),
            policy_row("oracle", oracle),
        ]
        parts.append(
            f"With {label}, the policy has {spread(shares, 1, 100)} % of the oracle's reward.\n\n"
            + table(HEAD, rows)
        )
    return "## 4. Unseen prices, unseen experts\n\n" + "\n\n".join(parts)


def _ablation(study: Study, arm: str, title: str, words: str) -> str:
    own, other = study.rows("ours", after), study.rows(arm, after)
    factor = fmean(row["cost_usd"] for row in other) / fmean(row["cost_usd"] for row in own)
    rows = [policy_row("as the paper", own), policy_row(arm, other)]
    return f"""## {title}

{words} Its policy costs {factor:.1f} times as much. The reward in each row is over that run's own
comparison, so it does not compare across rows.

{table(HEAD, rows)}"""


def _seeds(study: Study) -> str:
    rows = [
        [f"{arm}, seed {seed}", *(f"{value:.3f}" for value in _figures(study, arm, seed))]
        for arm in ("ours", "no_preference", "outcome", "released")
        for seed in study.seeds
    ]
    head = ("run", "accuracy before", "after", "reward before", "after", "strongest", "oracle")
    return f"""## Every seed

{table(head, rows)}

Configurations: `configs/quickstart.yaml`, `configs/study/` and `configs/presets/released.yaml`."""


def _figures(study: Study, arm: str, seed: int) -> list[float]:
    summary = study.summary(arm, seed)
    before, own, others = summary["before"], summary["after"], summary["baselines"]
    return [
        before["accuracy"],
        own["accuracy"],
        before["reward"],
        own["reward"],
        others["strongest"]["reward"],
        others["oracle"]["reward"],
    ]
