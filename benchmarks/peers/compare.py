"""Compares this project's loss and advantages with TRL's and verl's on the same random inputs.

    make bench-peers                  # a table of the largest differences; fails over a bound
    make bench-peers ARGS=--write     # also writes the fixture of the tests

For each case of `cases.LOSSES`: the loss, its gradient in every log-probability, and the shares of
clipped tokens if the peer reports them. For each estimator: the advantage of every episode. The
bound is 1e-6, for GDPO 1e-5, since verl computes it in single precision.
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

from orchestra_ray.workers.reward.advantage import batch_advantages, group_advantages
from orchestra_ray.workers.reward.objectives import group_rewards

TOLERANCE, SINGLE_TOLERANCE = 1e-6, 1e-5
FIXTURE = Path(__file__).parents[2] / "tests" / "workers" / "learner" / "peers.json"
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
    single = max(_gdpo_difference(seed) for seed in seeds)
    _print("advantages, gdpo", [single, None])
    if arguments.write:
        lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in _fixture().items())
        FIXTURE.write_text(f"{{\n{lines}\n}}\n")
        print(f"wrote {FIXTURE}")
    if worst > TOLERANCE:
        raise SystemExit(f"a difference of {worst:.1e} is over {TOLERANCE:g}")
    if single > SINGLE_TOLERANCE:
        raise SystemExit(f"a difference of {single:.1e} of gdpo is over {SINGLE_TOLERANCE:g}")


def our_advantages(preset: str, inputs: Mapping[str, Any]) -> np.ndarray:
    groups = [group_advantages(np.array(rewards), preset)[0] for rewards in inputs["rewards"]]
    return batch_advantages(np.concatenate(groups), preset, tokens_N=np.ravel(inputs["tokens"]))


def our_gdpo(inputs: Mapping[str, Any]) -> np.ndarray:
    weights, minimise = zip(*cases.OBJECTIVES.values(), strict=True)
    amounts_N_G_K = np.stack([inputs[name] for name in cases.OBJECTIVES], axis=-1)
    right_G = np.ones(cases.GROUP_SIZE, dtype=bool)
    groups = [
        group_rewards(amounts_G_K, np.array(weights), right_G, np.array(minimise), "gdpo")
        for amounts_G_K in amounts_N_G_K
    ]
    return our_advantages("gdpo", {"rewards": groups, "tokens": inputs["tokens"]})


def _gdpo_difference(seed: int) -> float:
    inputs = cases.objective_inputs(seed)
    return float(np.abs(our_gdpo(inputs) - np.ravel(verl_side.gdpo_advantages(inputs))).max())


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
    """Returns inputs and the peers' results, none computed by this project."""
    loss_inputs, reward_inputs = cases.loss_inputs(), cases.reward_inputs()
    objective_inputs = cases.objective_inputs()
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
        "objectives": cases.OBJECTIVES,
        "objective_inputs": objective_inputs,
        "gdpo": verl_side.gdpo_advantages(objective_inputs),
    }


def _print(name: str, found: list[float | None]) -> None:
    cells = ["-" if difference is None else f"{difference:.1e}" for difference in found]
    print(f"{name:40}" + "".join(f"{cell:>14}" for cell in cells))


if __name__ == "__main__":
    main()
