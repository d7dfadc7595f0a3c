"""The study's page from synthetic runs, against numbers computed by hand; runs that fail."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from safetensors.numpy import save_file

from orchestra_ray.config import load
from orchestra_ray.data.preferences.load import load_heldout_preferences
from orchestra_ray.evaluation.episode_log import FILE, EpisodeLog, EvalEpisode
from orchestra_ray.workers.rollout.episode import FAULTY

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "benchmarks"))

import study  # noqa: E402 # pyright: ignore[reportMissingImports]
import study_page  # noqa: E402 # pyright: ignore[reportMissingImports]
import study_tables  # noqa: E402 # pyright: ignore[reportMissingImports]

CONFIGS = REPOSITORY / "configs"
TASKS = 12
DEALT = (f"evaluation.tasks={TASKS}", "evaluation.seed=304")  # to users as in ASKS
SEEDS = (0, 1, 2)
FAILED_SEED = 2  # of `ours`, so of what measures its policy too
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
    """Does what each user asks for; on the first `wrong` tasks it asks nobody and is wrong."""
    return lambda n: (
        n >= wrong,
        CENTS[ASKS[n]],
        SECONDS[ASKS[n]],
        CALLS[ASKS[n]] if n >= wrong else {},
    )


def served(user: str, wrong: int) -> Play:
    """Every task as this user asks for it; the first `wrong` answers are wrong."""
    return lambda n: (n >= wrong, CENTS[user], SECONDS[user], CALLS[user])


def lost(play: Play, first: int) -> Play:
    """The same, but on the first tasks it asks for one that is not there."""
    return lambda n: (*play(n)[:3], {FAULTY: 1}) if n < first else play(n)


def lay(runs: Path, arm: str, seed: int, plays: Mapping[str, tuple[Play, float]]) -> None:
    """The folder of a run as training leaves it; a policy's play and its reward, by name."""
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


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("study")
    start = (flat(never, 3.0, 20.0), 0.2)
    for seed in SEEDS:
        changed = (flat(always, 2.0), 0.7)
        # Another start than that of `ours`: by its own ruler its score would be far higher.
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
    return runs


@pytest.fixture(scope="module")
def made(runs: Path) -> study_page.Study:
    return study_page.Study(runs, study.planned(SEEDS), SEEDS)


@pytest.fixture(scope="module")
def sections(made: study_page.Study) -> list[str]:
    """Of the page, each on one line."""
    return [" ".join(part.split()) for part in study_page.render(made).split("\n## ")]


def test_the_wishes_are_those_that_the_numbers_here_are_computed_for(made: study_page.Study):
    assert {n: group.preference.name for n, group in made.groups("ours", 0).items()} == ASKS


def test_sizes_and_time_are_those_of_the_runs(sections: list[str]):
    head = sections[0]
    assert "A policy of 1,234 parameters, 8 families" in head
    assert "6 simulated experts, 60 steps of 8 groups of 8 episodes" in head
    assert "3 seeds of policy and training, 12 held-out tasks each" in head
    assert "31 of 37 runs ended" in head
    assert "took 310 minutes" in head  # 31 runs of 600 s


def test_the_strongest_expert_is_compared_seed_by_seed(sections: list[str]):
    # Right: 11 and 10 of 12, the expert 8. Cents: (5 * .2 + 3 * .4 + 4 * .6) / 12 of 1.6.
    text = sections[1]
    assert "The strongest expert alone is nova. Over 2 of 3 seeds" in text
    assert "accuracy is +20.8 (+16.7 to +25.0) points from the expert's" in text
    assert "at 24.0 (24.0 to 24.0) % of its cost" in text
    assert "not shown, for the interval does not lie above 0." in text
    assert "| 0 | +25.0 | 24.0 | | 1 | +16.7 | 24.0 |" in text


def test_each_user_is_compared_with_the_strongest_expert_on_all_tasks(sections: list[str]):
    # Right: 6, 9 and 12 of 12, the expert 8; cents of 1.6.
    text = sections[1]
    assert "to the quick ones, 25% of the tasks, time weighs 1 and a right answer 0.1" in text
    rows = {line[0].strip("| "): line[1:] for line in cells(text)}
    assert rows["pebble"][0] == "+54.2 (+50.0 to +58.3)"  # 11 and 10 right against 4
    gains = {"frugal": "-16.7", "quick": "+8.3", "exact": "+33.3"}
    costs = {"frugal": "12.5", "quick": "25.0", "exact": "37.5"}
    for user in USERS:
        assert rows[user][0] == f"{gains[user]} ({gains[user]} to {gains[user]})"
        assert rows[user][2].startswith(f"{costs[user]} ({costs[user]} to {costs[user]})")
    low, high = (float(bound) for bound in rows["exact"][1].strip("[]").split(", "))
    assert 0 < low < 33.3 < high  # 4 of 12 tasks gain, the others are equal


def test_the_interval_resamples_tasks_with_all_their_seeds():
    assert study_tables.paired_interval([{0: 0.5, 1: 0.5}, {0: 0.5}]) == (0.5, 0.5)
    assert study_tables.paired_interval([{0: 1.0, 1: 0.0}, {0: 1.0}]) == (0.0, 1.0)
    # 400 tasks that differ by 1 or 0 evenly: 0.5 -+ 1.96 * 0.5 / 20, whatever the seeds repeat.
    many = [{n: float(n % 2) for n in range(400)}] * 3
    assert study_tables.paired_interval(many) == pytest.approx((0.451, 0.549), abs=0.004)


def test_the_oracle_is_compared_seed_by_seed(sections: list[str]):
    assert "75.0 (66.7 to 83.3) % of its reward: short of 90%" in sections[2]
    assert "Prompted alone, before training, it has 16.7 (16.7 to 16.7) %" in sections[2]
    silent = (
        "In 12.5 (8.3 to 16.7) % of its episodes it asks nobody; 0 of those 3 answers are right"
    )
    assert silent in sections[2]


def test_trl_is_compared_in_one_comparison(sections: list[str]):
    names = {name: play for name, (play, _) in ROUTERS.items()}
    pool = {"own": asked(wrong=1), "trl": flat(always, 2.0), **names}
    own, trl = mean_reward(pool, "own"), mean_reward(pool, "trl")
    share = f"{100 * own / trl:.1f}"
    text = sections[2]
    assert f"over 1 of 1 seeds, the policy has {share} ({share} to {share}) % of the" in text
    assert "it runs with the first seed alone" in text
    assert "To show was more: shown" in text
    assert "| TRL's GRPOTrainer | 100.0 (100.0 to 100.0) | 2.000 (2.000 to 2.000) |" in text


def test_policies_have_the_preference_score_and_the_reward_of_one_ruler(sections: list[str]):
    # Score. Start: wrong, 3 cents, 20 s. Right episodes of `ours`: frugal .5 + 3, quick
    # .1 + 20 / 8, exact 1. Seed 0: (4 * 3.5 + 3 * 2.6 + 4 * 1) / 12; seed 1: one exact less.
    # Without, 2 cents and 10 s: (5 * (.5 + 3 / 2) + 3 * (.1 + 2) + 4 * 1) / 12.
    # Reward. Right episodes of `ours`: frugal .5 + 2.8 / 2.9, quick .1 + 1, exact 1; without:
    # .5 + 1 / 2.9, .1 + 10 / 12, 1.
    text = sections[3]
    rows = {line[0].strip("| "): [c.strip("| ") for c in line[1:]] for line in cells(text)}
    own, without = rows["with preferences"], rows["without: one reward for all"]
    assert own[:2] == ["2.11 (2.07 to 2.15)", "2.80 (2.80 to 2.80)"]
    assert own[2:4] == ["2.60 (2.60 to 2.60)", "0.88 (0.75 to 1.00)"]
    assert own[4].startswith("1.055 (1.014 to 1.097)")
    assert without[:2] == ["1.69 (1.69 to 1.69)", "2.00 (2.00 to 2.00)"]
    assert without[4].startswith("0.919 (0.919 to 0.919)")
    assert "Over 2 of 3 seeds the score is higher" in text
    assert "in 2 of 2 seeds, the reward in 2 of 2. To show was a higher" in text
    assert "score in every seed: shown. Eq. 5" in text
    assert "the tasks of the quick users make 31% of the score" in text  # 7.8 of 25.8, 24.8


def test_a_user_is_compared_with_the_mean_of_the_others_on_the_same_tasks(sections: list[str]):
    rows = {line[0].strip(): line[1:] for line in cells(sections[3])}
    frugal, quick, exact = (rows[f"with preferences: {name}"] for name in USERS)
    assert frugal[:4] == [  # right 6 by (9 + 12) / 2 of 12; cents .2 by (.4 + .6) / 2
        "-38 (-38 to -38)",
        "**-60 (-60 to -60), down in 2 of 2**",
        "+11 (+11 to +11)",  # 10 s by (8 + 10) / 2
        "**-25 (-25 to -25), down in 2 of 2**",  # none dear by (0 + .5) / 2
    ]
    assert quick[:3] == ["+0 (+0 to +0)", "+0 (+0 to +0)", "**-20 (-20 to -20), down in 2 of 2**"]
    assert exact[:2] == ["**+38 (+38 to +38), up in 2 of 2**", "+100 (+100 to +100)"]
    assert exact[3] == "+50 (+50 to +50)"
    assert "With preferences 4 of 4 bold cells moved so in every seed: shown." in sections[3]
    assert "Without them 0 of 4 bold cells moved so in every seed: not shown." in sections[3]
    for name in USERS:
        for cell in rows[f"without: {name}"][:4]:
            assert cell.strip("*").startswith("+0 (+0 to +0)")


def gain(own: Play) -> float:
    """In one comparison with the routers, from the random one's reward to the oracle's."""
    pool = {"own": own, **{name: play for name, (play, _) in ROUTERS.items()}}
    random, oracle = mean_reward(pool, "random"), mean_reward(pool, "oracle")
    return (mean_reward(pool, "own") - random) / (oracle - random)


def percent(values: Sequence[float]) -> str:
    low, mean, high = (100 * one for one in (min(values), sum(values) / len(values), max(values)))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def test_what_remains_of_the_gain_is_told_by_world(sections: list[str]):
    seen = [gain(asked(wrong=1)), gain(asked(wrong=2))]
    unseen = [gain(UNSEEN)] * 2
    left = [there / here for here, there in zip(seen, unseen, strict=True)]
    rows = {line[0]: line[1:5] for line in cells(sections[4])}
    own = rows["prices and experts of the training"]
    assert own == ["2 of 3 seeds", percent(seen), percent([1, 1]), percent([0, 0])]
    prices = rows["prices and latencies that no training draw has"]
    assert prices == ["2 of 3 seeds", percent(unseen), percent(left), percent([0, 0])]
    experts = rows["experts with other names, strengths and prices"]
    assert experts[:3] == prices[:3]
    assert experts[3] == percent([0.5, 0.5])  # the calls of the first 6 of 12


def test_a_change_of_the_reward_is_compared_over_seeds_where_both_ended(sections: list[str]):
    for arm, text in zip(("released", "outcome"), sections[5:7], strict=True):
        # 2 cents by 4.6 / 12; 10 s by (9 * 10 + 3 * 8) / 12; right 12 by 11 and 10 of 12
        assert "Over 2 of 3 seeds its policy costs 5.2 (5.2 to 5.2) times as much" in text
        assert "and takes 1.1 (1.1 to 1.1) times as long" in text
        assert "its accuracy is +12.5 (+8.3 to +16.7) points away. As it was sampled" in text
        sampled = "50.0 (50.0 to 50.0) | 3.000 (3.000 to 3.000) | 30.0 (30.0 to 30.0)"
        assert f"| {arm}, in training | {sampled} | 3.00" in text
        assert f"| as the paper, in training | {sampled} | 3.00" in text


def test_a_seed_that_failed_is_shown(sections: list[str]):
    text = sections[7]
    assert "| ours, seed 2 | failed | failed |" in text
    assert "- ours, seed 2 failed: `ours: the disk is full`" in text
    assert "| ours, seed 1 | 0.000 | 0.833 | 0.200 | 0.800 | 0.900 | 1.200 |" in text
    assert "| unseen_prices, seed 0 | | 0.583 | | 0.600 | 0.900 | 1.200 |" in text
    assert "| ours_quick, seed 0 | | 0.750 | | | | |" in text  # a reward of its own pool: none


def test_without_a_seed_of_ours_there_is_no_page(runs: Path):
    with pytest.raises(ValueError, match="no seed of `ours` ended"):
        study_page.render(study_page.Study(runs, study.planned([FAILED_SEED]), [FAILED_SEED]))


def test_an_arm_that_never_ended_leaves_the_others_their_sections(runs: Path, tmp_path: Path):
    for folder in runs.glob("ours-*"):
        (tmp_path / folder.name).symlink_to(folder)
    page = study_page.render(study_page.Study(tmp_path, study.planned(SEEDS), SEEDS))
    assert "no seed of `no_preference` and `outcome` ended." in page
    assert "No seed of `trl` ended." in page
    assert "- released, seed 0 failed: `it did not end`" in page
    assert "| 0 of 3 seeds | none ended |" in page


def test_a_run_that_fails_leaves_the_reason_and_the_study_goes_on(tmp_path: Path):
    problem = study.make(ARMS["ours"], 0, tmp_path, ["no.such.key=1"])
    assert problem is not None and "no.such.key" in problem
    assert (tmp_path / "ours-0" / study_page.FAILED).read_text() == problem + "\n"
    problem = study.make(ARMS["unseen_prices"], 0, tmp_path, [])
    assert problem == "ours-0 left no policy to measure"
    failed = study_page.Study(tmp_path, study.planned([0]), [0])
    assert failed.why_failed("unseen_prices", 0) == problem


def test_the_last_line_of_stderr_says_why(tmp_path: Path):
    def ran(code: str) -> str | None:
        return study.failure([sys.executable, "-c", code], tmp_path / "stderr")

    assert ran("import sys; print('first\\nlast\\n', file=sys.stderr); sys.exit(1)") == "last"
    assert ran("import sys; sys.exit(3)") == "exit code 3"
    assert ran("import sys; print('a warning', file=sys.stderr)") is None


def test_every_run_of_the_study_is_a_valid_configuration(tmp_path: Path):
    experts, users = {}, {}
    for arm in study.ARMS:
        paths = [*study.BASE, *arm.configs]
        config = load(paths, [f"name={arm.name}", f"runs_dir={tmp_path}", *arm.keys])
        measured = load_heldout_preferences(config.catalogue, config.evaluation.preferences)
        users[arm.name] = tuple(one.name for one in measured)
        experts[arm.name] = [n for n in config.evaluation.baselines if n.startswith("expert:")]
    assert len(experts.pop("ours")) == 6
    assert not any(experts.values())
    assert set(users["ours"]) == set(USERS)
    assert [users[f"{arm}_{u}"] for arm in ("ours", "no_preference") for u in USERS] == [
        (user,) for user in USERS * 2
    ]


def cells(text: str) -> list[list[str]]:
    """The rows of a section's tables; a section stands on one line here."""
    return [[cell.strip() for cell in row.split(" | ")] for row in text.split(" | | ")]
