"""Advantages agree with verl's; see tests/workers/learner/test_peers.py."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from orchestra_ray.workers.reward.advantage import batch_advantages, group_advantages
from orchestra_ray.workers.reward.objectives import group_rewards

PEERS = json.loads((Path(__file__).parents[1] / "learner" / "peers.json").read_text())


@pytest.mark.parametrize("preset", list(PEERS["advantages"]))
def test_advantages_agree_with_those_of_verl(preset: str) -> None:
    inputs, expected = PEERS["reward_inputs"], PEERS["advantages"][preset]
    found = advantages(inputs["rewards"], inputs["tokens"], preset)
    assert found.tolist() == pytest.approx(np.ravel(expected).tolist(), rel=1e-6, abs=1e-6)


def test_decoupled_normalisation_agrees_with_that_of_verl() -> None:
    inputs, weights_and_ways = PEERS["objective_inputs"], PEERS["objectives"]
    weights_K, minimise_K = map(np.array, zip(*weights_and_ways.values(), strict=True))
    amounts_N_G_K = np.stack([inputs[name] for name in weights_and_ways], axis=-1)
    right_G = np.ones(amounts_N_G_K.shape[1], dtype=bool)
    rewards = [group_rewards(one, weights_K, right_G, minimise_K, "gdpo") for one in amounts_N_G_K]
    found = advantages(rewards, inputs["tokens"], "gdpo")
    # verl's are of single precision
    assert found.tolist() == pytest.approx(np.ravel(PEERS["gdpo"]).tolist(), rel=1e-5, abs=1e-5)


def advantages(rewards: Sequence, tokens: Sequence, preset: str) -> np.ndarray:
    """Of every episode of the groups, as a step has them."""
    groups = [group_advantages(np.array(group), preset) for group in rewards]
    assert all(keep for _, keep in groups)
    return batch_advantages(
        np.concatenate([group for group, _ in groups]), preset, tokens_N=np.ravel(tokens)
    )
