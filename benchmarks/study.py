"""`make study`: the paper's claims in miniature. Trains, measures, and writes docs/results.md.

For each seed: a policy as the quick start trains it, the same with three changes of the reward, and
the first one measured where prices and experts are new. A run whose summary is there is not made
again, so an interrupted study goes on. The page is made of the runs' own files alone.
"""

import argparse
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from study_page import render

REPOSITORY = Path(__file__).parents[1]
CONFIGS = REPOSITORY / "configs"
BASE = [CONFIGS / "quickstart.yaml", CONFIGS / "study" / "base.yaml"]


@dataclass(frozen=True, slots=True)
class Arm:
    """One kind of run. `of`: the arm whose checkpoint it measures; None: it trains."""

    name: str
    configs: tuple[Path, ...] = ()
    of: str | None = None


ARMS = (
    Arm("ours"),
    Arm("no_preference", (CONFIGS / "study" / "no_preference.yaml",)),
    Arm("outcome", (CONFIGS / "study" / "outcome.yaml",)),
    Arm("released", (CONFIGS / "presets" / "released.yaml",)),
    Arm("unseen_prices", (CONFIGS / "study" / "unseen_prices.yaml",), of="ours"),
    Arm("unseen_experts", (CONFIGS / "study" / "unseen_experts.yaml",), of="ours"),
)


def command(arm: Arm, seed: int, runs: Path, overrides: list[str]) -> list[str]:
    configs = [part for path in (*BASE, *arm.configs) for part in ("--config", str(path))]
    keys = [f"name={arm.name}-{seed}", f"seed={seed}", f"model.tiny.seed={seed}"]
    if arm.of is not None:
        (checkpoint,) = (runs / f"{arm.of}-{seed}" / "checkpoints").glob("step_*")
        keys += [f"model.path={checkpoint / 'policy'}", "model.tiny=null"]
    verb = "train" if arm.of is None else "eval"
    keys += [f"runs_dir={runs}", *overrides]
    return [sys.executable, "-m", "orchestra_ray.cli", verb, *configs, *keys]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python benchmarks/study.py --seeds 0 1 2"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=REPOSITORY / "runs" / "study")
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "results.md")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()
    started_s = time.monotonic()
    for seed in options.seeds:
        for arm in ARMS:
            folder = options.runs / f"{arm.name}-{seed}"
            if not (folder / "summary.json").exists():
                shutil.rmtree(folder, ignore_errors=True)  # a run of the study that was cut short
                print(f"study: {arm.name}, seed {seed}", flush=True)
                run = command(arm, seed, options.runs, options.overrides)
                subprocess.run(run, check=True, cwd=REPOSITORY)
    minutes = (time.monotonic() - started_s) / 60
    options.page.write_text(render(options.runs, options.seeds, minutes))
    print(f"study: {options.page}")


if __name__ == "__main__":
    main()
