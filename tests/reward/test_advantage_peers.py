"""Advantages agree with verl's; see tests/learner/test_peers.py."""

import json
from pathlib import Path

import numpy as np
import pytest

from orchestra_ray.reward.advantage import batch_advantages, group_advantages

PEERS = json.loads((Path(__file__).parents[1] / "learner" / "peers.json").read_text())


@pytest.mark.parametrize("preset", list(PEERS["advantages"]))
def test_advantages_agree_with_those_of_verl(preset: str) -> None:
    inputs, expected = PEERS["reward_inputs"], PEERS["advantages"][preset]
    groups = [group_advantages(np.array(rewards), preset) for rewards in inputs["rewards"]]
    assert all(keep for _, keep in groups)
    advantages = batch_advantages(
        np.concatenate([group for group, _ in groups]), preset, tokens_N=np.ravel(inputs["tokens"])
    )
    assert advantages.tolist() == pytest.approx(np.ravel(expected).tolist(), rel=1e-6, abs=1e-6)
