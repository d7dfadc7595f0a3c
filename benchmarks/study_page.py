"""docs/results.md from the runs of the study: every number is read from a run's own files.

An entry of a table is the mean over the completed seeds, with the lowest and the highest seed in
brackets; a comparison of two arms is over the seeds that completed in both. Failed runs are named.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from textwrap import fill
from typing import Any

from study_experts import experts
from study_preferences import preferences
from study_runs import FAILED, LAST_STEPS, Row, Study, faulty_share, without_calls
from study_tables import (
    HEAD,
    ROUTERS,
    after,
    baseline,
    before,
    paired_interval,
    policy_row,
    spread,
    table,
)

WIDTH = 100
REWARD_SHARE = 0.9  # of the oracle's: the criterion of the study


def render(study: Study) -> str:
    """Returns the page. Raises ValueError if no seed of `ours` ended: all is compared with it."""
    if not study.ended("ours"):
        raise ValueError(f"{study.runs}: no seed of `ours` ended; its {FAILED} says why")
    released = """The preset `released` computes the rewards of the published code: a right answer
is worth more the dearer and the slower it was, which favours another call before the answer.
Held-out tasks run at temperature 0, where a policy that prefers calls never answers. The slow
experts are cheap here, so the terms for seconds and for cents oppose each other. The preset also
has the published loss: clip-higher, dual clip, a KL term, no entropy bonus."""
    outcome = """The same instructions, with a reward for right answers only. The most accurate
expert of a task is its specialist, which is cheap and slow here: the policy saves money and takes
more time."""
    sections = [
        _head(study),
        experts(study),
        _oracle(study),
        preferences(study),
        _unseen(study),
        _ablation(study, "released", "5. The released code's rewards", released),
        _ablation(study, "outcome", "6. Without the efficiency reward", outcome),
        _seeds(study),
    ]
    blocks = "\n\n".join(sections).split("\n\n")
    return "\n\n".join(_wrapped(block) for block in blocks) + "\n"


def _wrapped(block: str) -> str:
    """Wraps a paragraph at the width of the docs; keeps tables, headings and lists."""
    return (
        block if block[0] in "|#-" else fill(" ".join(block.split()), WIDTH, break_on_hyphens=False)
    )


def _head(study: Study) -> str:
    config, inputs = study.config(), study.inputs("ours", study.ended("ours")[0])
    tasks = sorted({study.summary("ours", seed)["tasks"] for seed in study.ended("ours")})
    runs = sum(len(seeds) for seeds in study.arms.values())
    failed = runs - sum(len(study.ended(arm)) for arm in study.arms)
    return f"""# Results in miniature

`make study` makes this page from its runs' own files. A policy of {study.parameters():,}
parameters, {len(config.tasks.families)} families of reasoning-gym, {len(inputs.catalogue.models)}
simulated experts, {config.training.steps} steps of {config.training.groups_per_step} groups of
{config.training.group_size} episodes: the study tests whether the method behaves as the paper
says, and is no evidence on large models. {len(study.seeds)} seeds of policy and training,
{" or ".join(map(str, tasks))} held-out tasks each; an entry is the mean over the seeds that
ended, with the lowest and the highest seed in brackets. {runs - failed} of {runs} runs ended;
the last section names those that failed. All tuning used the tasks of other evaluation seeds.
Rewards are Eq. 1 and 2 over the policies of one comparison, and are not comparable across
comparisons. The runs took {study.wall_s() / 60:.0f} minutes in all."""


def _oracle(study: Study) -> str:
    start, own = study.rows("ours", before), study.rows("ours", after)
    oracle = study.rows("ours", baseline("oracle"))
    shares = [a["reward"] / b["reward"] for a, b in zip(own, oracle, strict=True)]
    rows = [
        policy_row("prompt-only (before training)", start),
        policy_row("**after training**", own),
        *(policy_row(name, study.rows("ours", baseline(name))) for name in ROUTERS),
    ]
    verdict = "above" if fmean(shares) > REWARD_SHARE else "short of"
    prompted = [a["reward"] / b["reward"] for a, b in zip(start, oracle, strict=True)]
    evaluated = [study.episodes("ours", seed, "after") for seed in study.ended("ours")]
    alone = [without_calls(found) for found in evaluated]
    silent = [len(found) / len(of) for found, of in zip(alone, evaluated, strict=True)]
    right = sum(one.correct for found in alone for one in found)
    return f"""## 2. Against the oracle router, and against TRL

The oracle knows every expert's skill. Over {study.over("ours")} the policy has
{spread(shares, 1, 100)} % of its reward: {verdict} {REWARD_SHARE:.0%}. Prompted alone, before
training, it has {spread(prompted, 1, 100)} %. In {spread(silent, 1, 100)} % of its episodes no
call reaches a tool or model; {right} of those {sum(map(len, alone))} answers are right.

{table(HEAD, rows)}

{_trl(study)}"""


def _trl(study: Study) -> str:
    seeds = study.ended("ours", "trl")
    if not seeds:
        return "No seed of `trl` ended."
    own, theirs = "**after training**", "TRL's GRPOTrainer"
    policies = {own: ("ours", "after"), theirs: ("trl", "policy")}
    policies |= {name: ("ours", name) for name in ROUTERS}
    found = [study.together(seed, policies) for seed in seeds]
    shares = [one[own].reward / one[theirs].reward for one in found]
    low, high = paired_interval([study.reward_gains(seed, policies) for seed in seeds])
    rows = [policy_row(name, [one[name].to_json() for one in found]) for name in policies]
    some = len(study.planned("trl")) < len(study.seeds)
    once = "; it runs with the first seed alone, to save time" if some else ""
    faulty, faulty_there = (
        fmean(faulty_share(study.episodes(arm, seed, name)) for seed in seeds)
        for arm, name in (policies[own], policies[theirs])
    )
    return f"""TRL has no tools with prices that differ between tasks. Its trainer therefore gets
the same initial policy, tasks, episodes (through its `rollout_func`), rewards, optimizer and
settings, which were tuned with this project's trainer{once}. The loop, the advantages and the loss
are TRL's, and it trains on every episode, whereas this project drops, as the paper does,
homogeneous groups and episodes without an answer or out of format. In one comparison of both, over
{study.over("ours", "trl")}, the policy has
{spread(shares, 1, 100)} % of the reward of TRL's; the difference is in [{low:+.3f}, {high:+.3f}]
(95%, paired bootstrap over tasks). Criterion: a higher reward. Result: {_more(low, high)}.
Of the calls, {faulty:.1%} are faulty, of TRL's {faulty_there:.1%}: a dropped episode is no training
against faulty calls.

{table(HEAD, rows)}"""


def _more(low: float, high: float) -> str:
    if low > 0:
        return "shown"
    return "not shown, TRL's is higher" if high < 0 else "not shown, the interval contains 0"


def gain_share(study: Study, arm: str, seed: int) -> float:
    """Returns the reward between the random router (0) and the oracle (1), in one comparison."""
    own = ("ours", "after") if arm == "ours" else (arm, "policy")
    found = study.together(seed, {"own": own, **{name: (arm, name) for name in ROUTERS}})
    random, oracle = found["random"].reward, found["oracle"].reward
    return (found["own"].reward - random) / (oracle - random)


def _unseen(study: Study) -> str:
    shares, parts = [], []
    for arm, label in (
        ("ours", "prices and experts of the training"),
        ("unseen_prices", "prices and latencies that no training toolset has"),
        ("unseen_experts", "experts with other names, strengths and prices"),
    ):
        seeds = study.ended("ours", arm)
        if not seeds:
            shares.append([label, study.over(arm), "none ended", "", ""])
            continue
        seen, here = ([gain_share(study, a, seed) for seed in seeds] for a in ("ours", arm))
        left = [b / a for a, b in zip(seen, here, strict=True)]
        name = "after" if arm == "ours" else "policy"
        lost = [faulty_share(study.episodes(arm, seed, name)) for seed in seeds]
        cells = [study.over("ours", arm), *(spread(f, 1, 100) for f in (here, left, lost))]
        shares.append([label, *cells])
        if arm != "ours":
            rows = [policy_row(name, study.rows(arm, baseline(name), "ours")) for name in ROUTERS]
            own = policy_row("**trained policy**", study.rows(arm, after, "ours"))
            parts.append(f"With {label}:\n\n{table(HEAD, [own, *rows])}")
    gain, left = "gain, % of the oracle's", "remaining gain, %"
    head = ("setting", "over", gain, left, "faulty calls, %")
    return "\n\n".join(
        [
            "## 4. Unseen prices, unseen experts",
            "The gain is (own - random) / (oracle - random), from the rewards of one comparison of"
            " the policy with the four routers; the remaining gain is its ratio to the gain with"
            " the training's prices and experts, seed by seed. One of the unseen experts has two"
            " strengths, unlike any in training. A toolset numbers its models in a random order"
            " (`catalogue.aliases`), so a policy knows them by description and price alone, and new"
            " names have no effect.",
            table(head, shares),
            *parts,
        ]
    )


def _ablation(study: Study, arm: str, title: str, words: str) -> str:
    if not study.ended("ours", arm):
        return f"## {title}\n\n{words} No seed of it ended beside one of `ours`."
    own, other = study.rows("ours", after, arm), study.rows(arm, after, "ours")
    own_sampled, sampled = study.sampled("ours", arm), study.sampled(arm, "ours")
    # Without the reward, which is not comparable across runs.
    rows = [
        policy_row("as the paper", own)[:-1],
        policy_row(arm, other)[:-1],
        policy_row("as the paper, in training", own_sampled),
        policy_row(f"{arm}, in training", sampled),
    ]
    return f"""## {title}

{words}

Over {study.over("ours", arm)} its policy {_changes(own, other)}. As sampled in the last
{LAST_STEPS} steps of training, it {_changes(own_sampled, sampled)}.

{table(HEAD[:-1], rows)}"""


def _changes(own: Sequence[Row], other: Sequence[Row]) -> str:
    """Describes `other` relative to `own`, seed by seed."""
    pairs = list(zip(own, other, strict=True))
    costs, times = ([b[name] / a[name] for a, b in pairs] for name in ("cost_usd", "latency_s"))
    right = [b["accuracy"] - a["accuracy"] for a, b in pairs]
    return f"""costs {spread(costs, 1)} times as much and takes
{spread(times, 1)} times as long, and its accuracy differs by
{spread(right, 1, 100, "+")} points"""


def _seeds(study: Study) -> str:
    rows, notes = [], []
    for arm, seeds in study.arms.items():
        for seed in seeds:
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

Configurations: `configs/quickstart.yaml`, `configs/study/` and `configs/presets/released.yaml`;
TRL's trainer: `benchmarks/peers/trl_train.py`."""


def _figures(summary: Mapping[str, Any]) -> list[str]:
    """Returns the columns after the first; a run without training has no figures before."""
    start, own, others = summary.get("before"), after(summary), summary["baselines"]
    own_reward = own if others else None  # without others it would compare with itself
    found = [(start, "accuracy"), (own, "accuracy"), (start, "reward"), (own_reward, "reward")]
    found += [(others.get(name), "reward") for name in ("strongest", "oracle")]
    return ["" if row is None else f"{row[name]:.3f}" for row, name in found]
