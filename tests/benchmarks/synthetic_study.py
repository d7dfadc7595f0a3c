"""Synthetic runs of the study, with figures that are easy to compute by hand."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from safetensors.numpy import save_file

from orchestra_ray.config import load
from orchestra_ray.evaluation.episode_log import FILE, EpisodeLog, EvalEpisode
from orchestra_ray.workers.rollout.episode import FAULTY

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import study  # noqa: E402 # pyright: ignore[reportMissingImports]
import study_page  # noqa: E402 # pyright: ignore[reportMissingImports]
import study_tables  # noqa: E402, F401 # pyright: ignore[reportMissingImports]

CONFIGS = REPOSITORY / "configs"
TASKS = 12
DEALT = (f"evaluation.tasks={TASKS}", "evaluation.seed=304")  # to users as in ASKS
SEEDS = (0, 1, 2)
FAILED_SEED = 2  # of `ours`, and of the arms that evaluate its policy
ASKS = {  # of each held-out task, by number; asserted below
    0: "frugal", 1: "exact", 2: "frugal", 3: "exact", 4: "frugal", 5: "quick",
    6: "quick", 7: "exact", 8: "exact", 9: "quick", 10: "frugal", 11: "frugal",
}  # fmt: skip
CENTS = {"frugal": 0.2, "quick": 0.4, "exact": 0.6}
SECONDS = {"frugal": 10.0, "quick": 8.0, "exact": 10.0}
CALLS = {"frugal": {"pebble": 1}, "quick": {"tally": 1}, "exact": {"nova": 1, "pebble": 1}}
ARMS = {arm.name: arm for arm in study.ARMS}
USERS = ("frugal", "quick", "exact")
OF_OURS = [f"ours_{user}" for user in USERS]

Play = Callable[[int], tuple[bool, float, float, Mapping[str, int]]]  # right, cents, s, calls


def flat(right: Callable[[int], bool], cents: float, seconds: float = 10.0) -> Play:
    return lambda n: (right(n), cents, seconds, {"orbit": 1})


def asked(wrong: int) -> Play:
    """Follows each user; on the first `wrong` tasks it makes no call and is wrong."""
    return lambda n: (
        n >= wrong,
        CENTS[ASKS[n]],
        SECONDS[ASKS[n]],
        CALLS[ASKS[n]] if n >= wrong else {},
    )


def served(user: str, wrong: int) -> Play:
    """Treats every task as this user asks; the first `wrong` answers are wrong."""
    return lambda n: (n >= wrong, CENTS[user], SECONDS[user], CALLS[user])


def lost(play: Play, first: int) -> Play:
    """The same, with a faulty call on the first tasks."""
    return lambda n: (*play(n)[:3], {FAULTY: 1}) if n < first else play(n)


def lay(runs: Path, arm: str, seed: int, plays: Mapping[str, tuple[Play, float]]) -> None:
    """Writes the folder of a run; `plays`: episodes and reward of each policy."""
    folder = runs / f"{arm}-{seed}"
    folder.mkdir()
    paths = [CONFIGS / "quickstart.yaml", *ARMS[arm].configs]
    config = load(paths, [f"name={arm}-{seed}", f"seed={seed}", *DEALT])
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.structured(config)))
    log, rows = EpisodeLog(folder / FILE), {}
    for name, (play, reward) in plays.items():
        found = [play(n) for n in range(TASKS)]
        for n, (right, cents, seconds, calls) in enumerate(found):
            price = round(cents * 10_000_000)
            log.add(
                name, EvalEpisode(n, f"task/{n}", "gcd", right, price, seconds, 2, calls, calls)
            )
        rows[name] = {
            "accuracy": sum(one[0] for one in found) / TASKS,
            "cost_usd": sum(one[1] for one in found) / TASKS / 100,
            "latency_s": sum(one[2] for one in found) / TASKS,
            "reward": reward,
            "turns": 2.0,
        }
    log.close()
    if ARMS[arm].of is None:  # it trains: 3 cents and 30 s in the last ten steps
        first = {"accuracy": 0.0, "cost_usd": 9.0, "latency_s": 9.0, "turns": 9.0}
        last = {"accuracy": 0.5, "cost_usd": 0.03, "latency_s": 30.0, "turns": 3.0}
        steps = [json.dumps(step) + "\n" for step in [first, *[last] * 10]]
        (folder / "metrics.jsonl").write_text("".join(steps))
    own = {name: rows.pop(name) for name in ("before", "after", "policy") if name in rows}
    summary: dict[str, Any] = {**own, "baselines": rows, "tasks": TASKS, "wall_s": 600.0}
    (folder / "summary.json").write_text(json.dumps(summary))


def always(n: int) -> bool:
    return True


def never(n: int) -> bool:
    return False


ROUTERS: Mapping[str, tuple[Play, float]] = {
    "random": (flat(lambda n: n < 6, 1.0), 0.4),
    "cheapest": (flat(lambda n: n < 3, 0.1), 0.5),
    "strongest": (flat(lambda n: n < 8, 1.6), 0.9),
    "oracle": (flat(always, 0.3), 1.2),
}
EXPERTS: Mapping[str, tuple[Play, float]] = {
    "expert:nova": (flat(lambda n: n < 8, 1.6), 0.9),
    "expert:pebble": (flat(lambda n: n < 4, 0.1), 0.5),
}


UNSEEN = flat(lambda n: n < 7, 0.8)
WEIGHTS = {"frugal": (0.5, 1.0, 0.0), "quick": (0.1, 0.0, 1.0), "exact": (1.0, 0.0, 0.0)}


def mean_reward(pool: Mapping[str, Play], of: str) -> float:
    """Eq. 1 and 2 over the pool of each task: outcome, cents and seconds, min-max."""
    total = 0.0
    for n in range(TASKS):
        rows = {name: play(n)[:3] for name, play in pool.items()}
        if not rows[of][0]:
            continue
        for column, sign in enumerate((1, -1, -1)):
            values = [sign * float(row[column]) for row in rows.values()]
            if min(values) < max(values):
                place = sign * rows[of][column] - min(values)
                total += WEIGHTS[ASKS[n]][column] * place / (max(values) - min(values))
    return total / TASKS


def lay_all(runs: Path) -> None:
    """Writes the runs of the whole study; those of FAILED_SEED after `ours` failed."""
    start = (flat(never, 3.0, 20.0), 0.2)
    for seed in SEEDS:
        changed = (flat(always, 2.0), 0.7)
        # Another start than that of `ours`: relative to it the score would be far higher.
        own_start = (flat(never, 100.0, 900.0), 0.2)
        lay(runs, "no_preference", seed, {"before": own_start, "after": changed, **ROUTERS})
        for user in USERS:
            lay(runs, f"no_preference_{user}", seed, {"policy": (changed[0], 0.5)})
        for arm in ("outcome", "released"):
            lay(runs, arm, seed, {"before": start, "after": changed, **ROUTERS})
        if seed in study.planned(SEEDS)["trl"]:
            lay(runs, "trl", seed, {"policy": (changed[0], 0.3), **ROUTERS})
        if seed == FAILED_SEED:
            for arm in ("ours", "unseen_prices", "unseen_experts", *OF_OURS):
                folder = runs / f"{arm}-{seed}"
                folder.mkdir()
                (folder / study_page.FAILED).write_text(f"{arm}: the disk is full\n")
            continue
        own = (asked(wrong=1 + seed), 1.0 - 0.2 * seed)
        lay(runs, "ours", seed, {"before": start, "after": own, **ROUTERS, **EXPERTS})
        for user, wrong in zip(USERS, (6, 3, 0), strict=True):
            lay(runs, f"ours_{user}", seed, {"policy": (served(user, wrong), 0.5)})
        lay(runs, "unseen_prices", seed, {"policy": (UNSEEN, 0.6), **ROUTERS})
        lay(runs, "unseen_experts", seed, {"policy": (lost(UNSEEN, 6), 0.56), **ROUTERS})
        policy = runs / f"ours-{seed}" / "checkpoints" / "step_60" / "policy"
        policy.mkdir(parents=True)
        tensors = {"a": np.zeros((30, 40), np.float32), "b": np.zeros(34, np.float32)}
        save_file(tensors, policy / "model.safetensors")
