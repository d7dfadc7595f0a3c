"""The loss agrees with verl's and TRL's in value, gradient and clipped shares.

`peers.json` holds random inputs and what verl's and TRL's own functions made of them;
`make bench-peers ARGS=--write` writes it.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestra_ray.config.enums import Aggregation, KlEstimator, Surrogate
from orchestra_ray.config.learning import LossConfig
from orchestra_ray.workers.learner.loss import policy_loss

PEERS = json.loads(Path(__file__).with_name("peers.json").read_text())
NAMES = [f"{case['peer']}: {case['name']}" for case in PEERS["losses"]]
ENUMS = {"surrogate": Surrogate, "aggregation": Aggregation, "kl_estimator": KlEstimator}


def test_the_answers_are_of_a_named_version() -> None:
    assert PEERS["versions"].keys() >= {"verl", "trl", "torch"}
    names = [(case["peer"], case["name"]) for case in PEERS["losses"]]
    assert len(names) == len(set(names))
    told = Counter(peer for peer, _ in names)
    assert told["verl"] >= 15 and told["trl"] >= 9


@pytest.mark.parametrize("case", PEERS["losses"], ids=NAMES)
def test_the_loss_agrees_with_that_of_a_peer(case: dict[str, Any]) -> None:
    given = {name: torch.tensor(values) for name, values in PEERS["loss_inputs"].items()}
    given = {name: v if v.dtype == torch.bool else v.double() for name, v in given.items()}
    settings = case["config"].items()
    cfg = LossConfig(**{key: ENUMS[key](v) if key in ENUMS else v for key, v in settings})
    if cfg.aggregation is Aggregation.CONSTANT:
        given["weights"] = torch.full_like(given["logp"], 1 / cfg.constant_tokens)
    logp = given["logp"].requires_grad_()
    loss, sums = policy_loss(cfg=cfg, **given)
    (gradient,) = torch.autograd.grad(loss, logp)
    assert loss.item() == pytest.approx(case["loss"], rel=1e-6, abs=1e-9)
    expected = torch.tensor(case["gradient"], dtype=torch.float64)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-9)
    shares = {name: (sums[name] / sums["tokens"]).item() for name in case["stats"]}
    assert shares == pytest.approx(case["stats"])
