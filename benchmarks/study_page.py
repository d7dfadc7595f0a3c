"""docs/results.md from the runs of the study: every number is read from a run's own files.

A cell is the mean over seeds, with the lowest and the highest seed in brackets. Means are over the
seeds that ended, in a comparison of two arms over those where both did; a run that failed is named.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from textwrap import fill
from typing import Any

from study_experts import experts
from study_runs import FAILED, LAST_STEPS, Row, Study, faulty_share, unasked
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
from study_wishes import preferences

WIDTH = 100
REWARD_SHARE = 0.9  # of the oracle's: what the study is to show


def render(study: Study) -> str:
    """The page. Raises ValueError where no seed of `ours` ended: all is compared with it."""
    if not study.ended("ours"):
        raise ValueError(f"{study.runs}: no seed of `ours` ended; its {FAILED} says why")
    released = """The preset `released` computes what the published code does: right answers are
worth more the dearer and the slower they were, so that another call before the answer pays.
Held-out tasks are played at temperature 0, where a policy that prefers to call never answers. The
slow experts are cheap here, so what pays for seconds works against what pays for cents. The preset
has the published loss too: clip-higher, dual clip, a KL, no entropy bonus."""
    outcome = """The same instructions, and only right answers are rewarded. The likeliest expert of
a task is its specialist, who is cheap and slow here: what this saves in money it takes in time."""
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
    """A paragraph at the width of the docs; tables, headings and lists as they are."""
    return block if block[0] in "|#-" else fill(" ".join(block.split()), WIDTH)


def _head(study: Study) -> str:
    config, world = study.config(), study.world("ours", study.ended("ours")[0])
    tasks = sorted({study.summary("ours", seed)["tasks"] for seed in study.ended("ours")})
    runs = sum(len(seeds) for seeds in study.arms.values())
    failed = runs - sum(len(study.ended(arm)) for arm in study.arms)
    return f"""# Results in miniature

`make study` makes this page from its runs' own files. A policy of {study.parameters():,}
parameters, {len(config.tasks.families)} families of reasoning-gym, {len(world.catalogue.models)}
simulated experts, {config.training.steps} steps of {config.training.groups_per_step} groups of
{config.training.group_size} episodes: it is to show whether the method does what the paper says,
and shows nothing of how large models do. {len(study.seeds)} seeds of policy and training,
{" or ".join(map(str, tasks))} held-out tasks each; a cell is the mean over the seeds that ended,
the lowest and the highest seed in brackets. {runs - failed} of {runs} runs ended; the last section
names those that failed. What was tuned was tuned on the tasks of other evaluation seeds. A reward
is Eq. 1 and 2 over the policies of one comparison; those of two comparisons do not compare. The
runs took {study.wall_s() / 60:.0f} minutes in all."""


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
    played = [study.episodes("ours", seed, "after") for seed in study.ended("ours")]
    alone = [unasked(found) for found in played]
    silent = [len(found) / len(of) for found, of in zip(alone, played, strict=True)]
    right = sum(one.correct for found in alone for one in found)
    return f"""## 2. Against the oracle router, and against TRL

The oracle knows every expert's skill. Over {study.over("ours")} the policy has
{spread(shares, 1, 100)} % of its reward: {verdict} {REWARD_SHARE:.0%}. Prompted alone, before
training, it has {spread(prompted, 1, 100)} %. In {spread(silent, 1, 100)} % of its episodes it asks
nobody; {right} of those {sum(map(len, alone))} answers are right.

{table(HEAD, rows)}

{_trl(study)}"""


def _trl(study: Study) -> str:
    seeds = study.ended("ours", "trl")
    if not seeds:
        return "No seed of `trl` ended."
    own, theirs = "**after training**", "TRL's GRPOTrainer"
    baselines = {own: ("ours", "after"), theirs: ("trl", "policy")}
    baselines |= {name: ("ours", name) for name in ROUTERS}
    found = [study.together(seed, baselines) for seed in seeds]
    shares = [one[own].reward / one[theirs].reward for one in found]
    low, high = paired_interval([study.reward_gains(seed, baselines) for seed in seeds])
    rows = [policy_row(name, [one[name].to_json() for one in found]) for name in baselines]
    some = len(study.planned("trl")) < len(study.seeds)
    once = "; it runs with the first seed alone, for the time" if some else ""
    faulty, faulty_there = (
        fmean(faulty_share(study.episodes(arm, seed, name)) for seed in seeds)
        for arm, name in (baselines[own], baselines[theirs])
    )
    return f"""TRL has no tools with prices that change from task to task. So its trainer was
given the same start, tasks, episodes (by its `rollout_func`), rewards, optimizer and settings,
which were tuned with this project's trainer{once}. Its own are the loop, the advantages and the
loss, and it trains every episode, where this one drops as the paper does groups that are alike and
episodes without an answer or out of format. In one comparison of both, over
{study.over("ours", "trl")}, the policy has
{spread(shares, 1, 100)} % of the reward of TRL's; the difference is in [{low:+.3f}, {high:+.3f}]
(95%, paired bootstrap over tasks). To show was more: {_more(low, high)}. Of the calls,
{faulty:.1%} reach nobody, of TRL's {faulty_there:.1%}: an episode that is dropped unlearns nothing.

{table(HEAD, rows)}"""


def _more(low: float, high: float) -> str:
    if low > 0:
        return "shown"
    return "not shown, TRL's has more" if high < 0 else "not shown, for the interval holds 0"


def gain_share(study: Study, arm: str, seed: int) -> float:
    """How far from the random router's reward to the oracle's, in one comparison of these."""
    own = ("ours", "after") if arm == "ours" else (arm, "policy")
    found = study.together(seed, {"own": own, **{name: (arm, name) for name in ROUTERS}})
    random, oracle = found["random"].reward, found["oracle"].reward
    return (found["own"].reward - random) / (oracle - random)


def _unseen(study: Study) -> str:
    shares, parts = [], []
    for arm, label in (
        ("ours", "prices and experts of the training"),
        ("unseen_prices", "prices and latencies that no training draw has"),
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
    gain, left = "gain, % of the oracle's", "what remains of the gain, %"
    head = ("world", "over", gain, left, "calls that reach nobody, %")
    return "\n\n".join(
        [
            "## 4. Unseen prices, unseen experts",
            "The gain is (own - random) / (oracle - random) of the rewards of one comparison of the"
            " policy with the four routers; what remains is its share of that in the world of the"
            " training, seed by seed. One of the unseen experts has two strengths, as none has in"
            " training. A draw numbers its"
            " models in a random order (`catalogue.aliases`), so a policy knows them by description"
            " and price alone; new names by themselves change nothing.",
            table(head, shares),
            *parts,
        ]
    )


def _ablation(study: Study, arm: str, title: str, words: str) -> str:
    if not study.ended("ours", arm):
        return f"## {title}\n\n{words} No seed of it ended beside one of `ours`."
    own, other = study.rows("ours", after, arm), study.rows(arm, after, "ours")
    own_sampled, sampled = study.sampled("ours", arm), study.sampled(arm, "ours")
    # Without the reward: it is over a run's own comparison and does not compare across runs.
    rows = [
        policy_row("as the paper", own)[:-1],
        policy_row(arm, other)[:-1],
        policy_row("as the paper, in training", own_sampled),
        policy_row(f"{arm}, in training", sampled),
    ]
    return f"""## {title}

{words}

Over {study.over("ours", arm)} its policy {_changes(own, other)}. As it was sampled in the last
{LAST_STEPS} steps of training, it {_changes(own_sampled, sampled)}.

{table(HEAD[:-1], rows)}"""


def _changes(own: Sequence[Row], other: Sequence[Row]) -> str:
    """Of `other` against `own`, seed by seed."""
    pairs = list(zip(own, other, strict=True))
    costs, times = ([b[name] / a[name] for a, b in pairs] for name in ("cost_usd", "latency_s"))
    right = [b["accuracy"] - a["accuracy"] for a, b in pairs]
    return f"""costs {spread(costs, 1)} times as much and takes
{spread(times, 1)} times as long, and its accuracy is {spread(right, 1, 100, "+")} points away"""


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
    """As in the head of the table; a run that only measures has nothing before, and few others."""
    start, own, others = summary.get("before"), after(summary), summary["baselines"]
    own_reward = own if others else None  # alone it would be over itself
    found = [(start, "accuracy"), (own, "accuracy"), (start, "reward"), (own_reward, "reward")]
    found += [(others.get(name), "reward") for name in ("strongest", "oracle")]
    return ["" if row is None else f"{row[name]:.3f}" for row, name in found]
