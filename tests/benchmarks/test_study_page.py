"""The study's page from synthetic runs, against numbers computed by hand."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from .synthetic_study import (
    ASKS,
    FAILED_SEED,
    ROUTERS,
    SEEDS,
    UNSEEN,
    USERS,
    Play,
    always,
    asked,
    flat,
    lay_all,
    mean_reward,
    study,
    study_page,
    study_tables,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("study")
    lay_all(runs)
    return runs


@pytest.fixture(scope="module")
def made(runs: Path) -> study_page.Study:
    return study_page.Study(runs, study.planned(SEEDS), SEEDS)


@pytest.fixture(scope="module")
def sections(made: study_page.Study) -> list[str]:
    """Of the page, each on one line."""
    return [" ".join(part.split()) for part in study_page.render(made).split("\n## ")]


def test_the_users_are_those_of_the_numbers_here(made: study_page.Study):
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
    assert "Result: not shown, since the interval does not lie above 0." in text
    assert "| 0 | +25.0 | 24.0 | | 1 | +16.7 | 24.0 |" in text


def test_each_user_is_compared_with_the_strongest_expert_on_all_tasks(sections: list[str]):
    # Right: 6, 9 and 12 of 12, the expert 8; cents of 1.6.
    text = sections[1]
    assert (
        "the quick ones, 25% of the tasks, give time a weight of 1 and a right answer 0.1" in text
    )
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
        "In 12.5 (8.3 to 16.7) % of its episodes no call reaches a tool or model;"
        " 0 of those 3 answers are right"
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
    assert "Criterion: a higher reward. Result: shown" in text
    assert "| TRL's GRPOTrainer | 100.0 (100.0 to 100.0) | 2.000 (2.000 to 2.000) |" in text


def test_policies_have_the_preference_score_and_the_reward_of_one_comparison(sections: list[str]):
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
    assert "in 2 of 2 seeds, the reward in 2 of 2. Criterion: a higher" in text
    assert "score in every seed. Result: shown. Eq. 5" in text
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
    assert (
        "With preferences 4 of 4 bold entries moved as intended in every seed: shown."
        in sections[3]
    )
    assert (
        "Without them 0 of 4 bold entries moved as intended in every seed: not shown."
        in sections[3]
    )
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


def test_the_remaining_gain_is_reported_by_setting(sections: list[str]):
    seen = [gain(asked(wrong=1)), gain(asked(wrong=2))]
    unseen = [gain(UNSEEN)] * 2
    left = [there / here for here, there in zip(seen, unseen, strict=True)]
    rows = {line[0]: line[1:5] for line in cells(sections[4])}
    own = rows["prices and experts of the training"]
    assert own == ["2 of 3 seeds", percent(seen), percent([1, 1]), percent([0, 0])]
    prices = rows["prices and latencies that no training toolset has"]
    assert prices == ["2 of 3 seeds", percent(unseen), percent(left), percent([0, 0])]
    experts = rows["experts with other names, strengths and prices"]
    assert experts[:3] == prices[:3]
    assert experts[3] == percent([0.5, 0.5])  # the calls of the first 6 of 12


def test_a_change_of_the_reward_is_compared_over_seeds_where_both_ended(sections: list[str]):
    for arm, text in zip(("released", "outcome"), sections[5:7], strict=True):
        # 2 cents by 4.6 / 12; 10 s by (9 * 10 + 3 * 8) / 12; right 12 by 11 and 10 of 12
        assert "Over 2 of 3 seeds its policy costs 5.2 (5.2 to 5.2) times as much" in text
        assert "and takes 1.1 (1.1 to 1.1) times as long" in text
        assert "its accuracy differs by +12.5 (+8.3 to +16.7) points. As sampled" in text
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


def cells(text: str) -> list[list[str]]:
    """The rows of a section's tables; a section stands on one line here."""
    return [[cell.strip() for cell in row.split(" | ")] for row in text.split(" | | ")]
