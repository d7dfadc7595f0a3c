"""`make study`: the paper's claims in miniature. Trains, measures, and writes docs/results.md.

For each seed: a policy as the quick start trains it, three variants of the reward, and the same
policy by TRL's trainer (first seed only); the first policy with unseen prices and unseen experts;
and two policies on the same held-out tasks, once for each user. A run with a summary is kept, so an
interrupted study resumes. A failed run leaves `failed.txt` in its folder and is retried by the next
study; the others go on. The page is made from the runs' own files alone.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from study_page import FAILED, Study, render
from study_preferences import USERS, user_arm

REPOSITORY = Path(__file__).parents[1]
CONFIGS = REPOSITORY / "configs"
STUDY = CONFIGS / "study"
BASE = (CONFIGS / "quickstart.yaml",)
ROUTERS = STUDY / "routers.yaml"
PEERS = REPOSITORY / "benchmarks" / "peers"
ORCHESTRA = (sys.executable, "-m", "orchestra_ray.cli.main")
TRL = (
    "env",
    f"PYTHONPATH={REPOSITORY}",
    str(PEERS / ".venv" / "bin" / "python"),
    str(PEERS / "trl_train.py"),
)


@dataclass(frozen=True, slots=True)
class Arm:
    """One kind of run. `of`: the arm whose checkpoint it evaluates; None: it trains.

    keys: overrides after its configs. trainer: the program that trains. once: run with the first
    seed only, to save time.
    """

    name: str
    configs: tuple[Path, ...] = ()
    of: str | None = None
    keys: tuple[str, ...] = ()
    trainer: tuple[str, ...] = (*ORCHESTRA, "train")
    once: bool = False


def users_of(arm: str) -> list[Arm]:
    """Returns arms with its policy on the same held-out tasks, one for each preference."""
    return [
        Arm(
            user_arm(arm, user),
            of=arm,
            keys=(f"evaluation.preferences=[{user}]", "evaluation.baselines=[]"),
        )
        for user in USERS
    ]


ARMS = (
    Arm("ours", (STUDY / "experts.yaml",)),
    Arm("no_preference", (ROUTERS, STUDY / "no_preference.yaml")),
    Arm("outcome", (ROUTERS, STUDY / "outcome.yaml")),
    Arm("released", (ROUTERS, CONFIGS / "presets" / "released.yaml")),
    Arm("trl", (ROUTERS,), trainer=TRL, once=True),
    Arm("unseen_prices", (ROUTERS, STUDY / "unseen_prices.yaml"), of="ours"),
    Arm("unseen_experts", (ROUTERS, STUDY / "unseen_experts.yaml"), of="ours"),
    *users_of("ours"),
    *users_of("no_preference"),
)


def planned(seeds: Sequence[int]) -> dict[str, Sequence[int]]:
    """Returns the seeds of each arm, by name."""
    return {arm.name: seeds[:1] if arm.once else seeds for arm in ARMS}


def command(arm: Arm, seed: int, runs: Path, overrides: Sequence[str]) -> list[str]:
    """Returns the command of a run. Raises FileNotFoundError if its checkpoint is absent."""
    configs = [part for path in (*BASE, *arm.configs) for part in ("--config", str(path))]
    keys = [f"name={arm.name}-{seed}", f"seed={seed}", f"model.tiny.seed={seed}", *arm.keys]
    if arm.of is not None:
        source = runs / f"{arm.of}-{seed}"
        checkpoints = list((source / "checkpoints").glob("step_*"))
        if not checkpoints or not (source / "summary.json").exists():
            raise FileNotFoundError(f"{source.name} left no policy to evaluate")
        last = max(checkpoints, key=lambda path: int(path.name.removeprefix("step_")))
        keys += [f"model.path={last / 'policy'}", "model.tiny=null"]
    program = arm.trainer if arm.of is None else (*ORCHESTRA, "eval")
    return [*program, *configs, *keys, f"runs_dir={runs}", *overrides]


def make(arm: Arm, seed: int, runs: Path, overrides: Sequence[str]) -> str | None:
    """Makes the run if it is absent. Returns the reason of a failure, also written to disk."""
    folder = runs / f"{arm.name}-{seed}"
    if (folder / "summary.json").exists():
        return None
    shutil.rmtree(folder, ignore_errors=True)  # left by an interrupted or failed run
    print(f"study: {arm.name}, seed {seed}", flush=True)
    try:
        problem = failure(command(arm, seed, runs, overrides), runs / f"{folder.name}.stderr")
    except FileNotFoundError as error:
        problem = str(error)
    if problem is None and not (folder / "summary.json").exists():
        problem = "it ended without a summary"
    if problem is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FAILED).write_text(problem + "\n")
        print(f"study: {arm.name}, seed {seed} failed: {problem}", flush=True)
    return problem


def failure(run: Sequence[str], stderr: Path) -> str | None:
    """Runs a command with stderr in a file. Returns its last line, or None after exit code 0.

    A file and not a pipe, since processes left by the run could hold a pipe open.
    """
    stderr.parent.mkdir(parents=True, exist_ok=True)
    with stderr.open("wb") as file:
        code = subprocess.run(run, cwd=REPOSITORY, stderr=file).returncode
    if code == 0:
        return None
    lines = [line for line in stderr.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {code}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="example: python benchmarks/study.py --seeds 0 1 2"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=REPOSITORY / "runs" / "study")
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "results.md")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()
    study = Study(options.runs.absolute(), planned(options.seeds), options.seeds)
    for seed in options.seeds:
        for arm in ARMS:
            if seed in study.arms[arm.name]:
                make(arm, seed, study.runs, options.overrides)
    try:
        page = render(study)
    except ValueError as error:
        sys.exit(f"study: {error}")
    options.page.write_text(page)
    print(f"study: {options.page}")


if __name__ == "__main__":
    main()
