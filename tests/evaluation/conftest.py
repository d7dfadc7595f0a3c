"""Run folders as a run writes them, with data for every section of a report."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from orchestra_ray.core.money import Usage
from orchestra_ray.core.records import Caller, LedgerEntry
from orchestra_ray.evaluation.summary import EpisodeOutcome, summarise
from orchestra_ray.spend.ledger import FOLDER, Ledger

FAMILIES = (
    "chain_sum", "products", "gcd", "lcm", "letter_counting", "count_bits", "count_primes",
    "simple_equations",
)  # fmt: skip
EXPERTS = (
    "answer-math", "nova", "pebble", "calculator", "web_search", "local_search_of_documents",
)  # fmt: skip
# By policy: accuracy, dollars and seconds of a task, and the weights of its calls.
POLICIES = {
    "before": (0.35, 0.0021, 8.9, (1, 1, 1, 1, 1, 1)),
    "after": (0.86, 0.0024, 10.4, (6, 1, 0, 8, 2, 3)),
    "random": (0.48, 0.0032, 10.6, (1, 1, 1, 1, 1, 1)),
    "cheapest": (0.37, 0.000075, 3.3, (0, 0, 1, 0, 0, 0)),
    "strongest": (0.64, 0.0136, 26.1, (0, 1, 0, 0, 0, 0)),
    "oracle": (0.88, 0.0023, 9.2, (5, 1, 1, 9, 1, 2)),
}
TASKS = 160


def outcomes(policy: str, seed: int) -> list[EpisodeOutcome]:
    accuracy, cost_usd, latency_s, spread = POLICIES[policy]
    rng = np.random.default_rng([seed, *policy.encode()])
    shares = np.array(spread) / sum(spread)
    found = []
    for n in range(TASKS):
        correct = bool(rng.random() < accuracy + 0.1 * np.cos(n % len(FAMILIES)))
        counts = rng.multinomial(2, shares)
        found.append(
            EpisodeOutcome(
                task_id=f"task {n}",
                correct=correct,
                cost_usd=float(cost_usd * rng.lognormal(0.0, 0.4)),
                latency_s=float(latency_s * rng.lognormal(0.0, 0.5)),
                reward=float(1.5 * correct - 80 * cost_usd + rng.normal(0.0, 0.2)),
                turns=int(rng.integers(1, 4)),
                family=FAMILIES[n % len(FAMILIES)],
                calls={e: int(c) for e, c in zip(EXPERTS, counts, strict=True) if c},
            )
        )
    return found


def summary_of(seed: int, preference: bool) -> dict[str, Any]:
    rows = {name: summarise(outcomes(name, seed), 200, 0) for name in POLICIES}
    if preference:
        rows = {name: replace(one, preference_score=one.reward / 2) for name, one in rows.items()}
    written = {name: one.to_json() for name, one in rows.items()}
    measured = {name: written.pop(name) for name in ("before", "after")}
    return {**measured, "baselines": written, "tasks": TASKS, "wall_s": 610.0 + seed}


def metrics_of(seed: int, steps: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "step": step,
            "time_s": 9.5 * step,
            "reward_mean": 1.2 * step / steps + rng.normal(0, 0.1),
            "accuracy": 0.4 + 0.4 * step / steps + rng.normal(0, 0.03),
            "cost_usd": 0.004 - 0.002 * step / steps,
            "latency_s": 12.0 - step / steps + rng.normal(0, 0.2),
            "turns": 2.1 + rng.normal(0, 0.05),
            "entropy": 1.1 - 0.6 * step / steps,
            "groups_kept": 8 - step % 3,
            "groups_dropped": step % 3,
            "tokens_per_s": 2500 + 200 * rng.normal(),
            "loss": 0.02 * rng.normal(),
            "grad_norm": 0.08 + 0.01 * rng.normal(),
            "seconds/generate": 2.0 + 0.2 * rng.random(),
            "seconds/score": 0.1,
            "seconds/train": 2.4,
            "seconds/publish": 0.2,
            "seconds/step": 5.0,
            "accounting/dispatched": 64 * step,
            "accounting/trained": 60 * step,
            "accounting/filtered_homogeneous": 4 * step,
        }
        for step in range(1, steps + 1)
    ]


def entries(seed: int) -> list[LedgerEntry]:
    """The calls of two held-out episodes a policy, and of one in training."""
    one = LedgerEntry(
        call_id="", caller=Caller(0, "", "", 0), identity="nova", alias="nova", kind="model",
        price_sheet="prices@1", usage=Usage(1_000, 0, 200, 0), charged_nanousd=2_000_000,
        service_s=1.5,
    )  # fmt: skip
    found = []
    for policy, called in (("before", ["nova"]), ("after", ["nova", "calculator", "calculator"])):
        for n in range(2):
            group = f"heldout/{policy}/{n}"
            for turn, identity in enumerate(["policy", *called]):
                kind = {"policy": "policy", "nova": "model"}.get(identity, "tool")
                caller = Caller(0, group, f"{group}/0", turn)
                call = f"{seed}/{group}/{turn}"
                found.append(
                    replace(one, call_id=call, caller=caller, identity=identity, kind=kind)
                )
    return [*found, replace(one, call_id="t", caller=Caller(1, "train/0", "train/0/0", 0))]


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes the folder of a run, with files for the given parts."""

    def make(
        name: str,
        seed: int = 0,
        evaluated: bool = True,
        preference: bool = False,
        steps: int = 60,
        ledger: bool = False,
        config: dict[str, Any] | None = None,
        **summary: Any,
    ) -> Path:
        folder = tmp_path_factory.mktemp("runs") / name
        folder.mkdir()
        if evaluated:
            written = summary_of(seed, preference) | summary
            (folder / "summary.json").write_text(json.dumps(written))
        lines = [json.dumps(line) + "\n" for line in metrics_of(seed, steps)]
        if lines:
            (folder / "metrics.jsonl").write_text("".join(lines))
        tree = {"name": name, "seed": seed, "training": {"steps": steps}} | (config or {})
        (folder / "config.yaml").write_text(yaml.safe_dump(tree))
        if ledger:
            written = Ledger(name, folder / FOLDER)
            written.add(entries(seed))
            assert written.flush() is None
        return folder

    return make
