"""Compares this project's loss and advantages with TRL's and verl's on the same random inputs.

    make bench-peers                  # a table of the largest differences; fails over 1e-6
    make bench-peers ARGS=--write     # and writes their answers for the tests

For each case of `cases.LOSSES`: the loss, its gradient in every log-probability, and the shares of
clipped tokens where the peer reports them. For each estimator: the advantage of every episode.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cases
import numpy as np
import trl_side
import verl_side
from cases import LossCase, Outcome

from orchestra_ray.reward.advantage import batch_advantages, group_advantages

TOLERANCE = 1e-6
FIXTURE = Path(__file__).parents[2] / "tests" / "learner" / "peers.json"
Peer = Callable[[LossCase, Mapping[str, Any]], Outcome]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the fixture of the tests")
    parser.add_argument("--seeds", type=int, default=20, help="random inputs a case")
    arguments = parser.parse_args()
    seeds = range(cases.SEED, cases.SEED + arguments.seeds)
    worst = 0.0
    print(f"largest absolute difference over {len(seeds)} random inputs")
    print(f"{'':40}{'verl ' + version('verl'):>14}{'TRL ' + version('trl'):>14}")
    for case in cases.LOSSES:
        peers = (case.verl, verl_side.loss_outcome), (case.trl, trl_side.loss_outcome)
        found = [
            max(_loss_difference(case, peer, seed) for seed in seeds) if settings else None
            for settings, peer in peers
        ]
        worst = max([worst, *(difference for difference in found if difference is not None)])
        _print(case.name, found)
    for preset in verl_side.ESTIMATORS:
        difference = max(_advantage_difference(preset, seed) for seed in seeds)
        worst = max(worst, difference)
        _print(f"advantages, {preset}", [difference, None])
    if arguments.write:
        lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in _fixture().items())
        FIXTURE.write_text(f"{{\n{lines}\n}}\n")
        print(f"wrote {FIXTURE}")
    if worst > TOLERANCE:
        raise SystemExit(f"a difference of {worst:.1e} is over {TOLERANCE:g}")


def our_advantages(preset: str, inputs: Mapping[str, Any]) -> np.ndarray:
    groups = [group_advantages(np.array(rewards), preset)[0] for rewards in inputs["rewards"]]
    return batch_advantages(np.concatenate(groups), preset, tokens_N=np.ravel(inputs["tokens"]))


def _loss_difference(case: LossCase, peer: Peer, seed: int) -> float:
    inputs = cases.loss_inputs(seed)
    ours, theirs = cases.our_outcome(case, inputs), peer(case, inputs)
    differences = [abs(ours.loss - theirs.loss)]
    differences += np.abs(np.subtract(ours.gradient, theirs.gradient)).ravel().tolist()
    differences += [abs(ours.stats[name] - share) for name, share in theirs.stats.items()]
    return max(differences)


def _advantage_difference(preset: str, seed: int) -> float:
    inputs = cases.reward_inputs(seed)
    theirs = np.ravel(verl_side.advantages(preset, inputs))
    return float(np.abs(our_advantages(preset, inputs) - theirs).max())


def _fixture() -> Mapping[str, Any]:
    """Inputs and the peers' answers; nothing of it is computed by this project."""
    loss_inputs, reward_inputs = cases.loss_inputs(), cases.reward_inputs()
    return {
        "versions": {name: version(name) for name in ("verl", "trl", "torch", "numpy")},
        "seed": cases.SEED,
        "loss_inputs": loss_inputs,
        "losses": [
            {"peer": name, "name": case.name, "config": case.ours} | asdict(peer(case, loss_inputs))
            for case in cases.LOSSES
            for name, settings, peer in (
                ("verl", case.verl, verl_side.loss_outcome),
                ("trl", case.trl, trl_side.loss_outcome),
            )
            if settings is not None
        ],
        "reward_inputs": reward_inputs,
        "advantages": {
            preset: verl_side.advantages(preset, reward_inputs) for preset in verl_side.ESTIMATORS
        },
    }


def _print(name: str, found: list[float | None]) -> None:
    cells = ["-" if difference is None else f"{difference:.1e}" for difference in found]
    print(f"{name:40}" + "".join(f"{cell:>14}" for cell in cells))


if __name__ == "__main__":
    main()
