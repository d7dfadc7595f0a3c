"""A micro-batch holds the advantages, weights and dropped tokens of its samples."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from orchestra_ray.config.enums import Aggregation
from orchestra_ray.config.learning import LossConfig
from orchestra_ray.core.records import Trajectory, Turn
from orchestra_ray.workers.learner.batch import IGNORE, Microbatch, Sample, collate

MakeTrajectory = Callable[[int, int], Trajectory]
CPU = torch.device("cpu")


@pytest.fixture
def trajectory(make_trajectory: MakeTrajectory) -> Trajectory:
    """Eight tokens; turns [2, 4), well-formed, and [6, 8), malformed."""
    made = make_trajectory(1, 8)
    assert made.turns == (Turn(2, 4, True), Turn(6, 8, False))
    return made


def batch_of(*samples: Sample, **loss: object) -> Microbatch:
    return collate(samples, packed=False, device=CPU, loss=LossConfig(**loss))  # type: ignore[arg-type]


def trained(batch: Microbatch, values: Tensor) -> list[float]:
    return values[batch.mask_B_T].tolist()


def test_one_advantage_is_that_of_every_token(trajectory: Trajectory) -> None:
    batch = batch_of(Sample(trajectory, 1.5))
    assert trained(batch, batch.advantages_B_T) == [1.5] * 4


def test_advantages_of_turns_lie_where_their_tokens_are_predicted(trajectory: Trajectory) -> None:
    batch = batch_of(Sample(trajectory, (1.5, -2.0)))
    assert batch.advantages_B_T[0].tolist() == [0, 1.5, 1.5, 0, 0, -2, -2, 0]
    assert batch.mask_B_T[0].tolist() == [False, True, True, False, False, True, True, False]


def test_advantages_that_do_not_fit_the_turns_name_the_episode(trajectory: Trajectory) -> None:
    with pytest.raises(ValueError, match="episode-1: 3 values for 2 turns"):
        batch_of(Sample(trajectory, [1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match="episode-1: a token counts as sampled and is in no turn"):
        batch_of(Sample(replace(trajectory, turns=()), 1.0), aggregation=Aggregation.TURN)


@pytest.mark.parametrize(
    ("aggregation", "weights", "share"),
    [
        (Aggregation.TOKEN, [1.0] * 8, 8.0),
        (Aggregation.TURN, [1 / 2] * 8, 4.0),
        (Aggregation.SEQUENCE, [1 / 4] * 8, 2.0),
        (Aggregation.EPISODE, [1 / 4] * 4 + [1 / 16] * 4, 1.25),
        (Aggregation.CONSTANT, [1 / 64] * 8, 2.0),
    ],
)
def test_weights_and_their_share_of_the_normaliser(
    trajectory: Trajectory, aggregation: Aggregation, weights: list[float], share: float
) -> None:
    samples = Sample(trajectory, 1.0), Sample(trajectory, 1.0, episode_tokens=16)
    batch = batch_of(*samples, aggregation=aggregation, constant_tokens=64)
    assert trained(batch, batch.weights_B_T) == weights
    assert batch.share == pytest.approx(share)


def test_a_malformed_turn_is_dropped_and_counted_where_asked(trajectory: Trajectory) -> None:
    kept = batch_of(Sample(trajectory, 1.0))
    assert kept.dropped == {"malformed_turns": 0, "malformed_tokens": 0}
    batch = batch_of(Sample(trajectory, 1.0), drop_malformed_turns=True)
    assert batch.mask_B_T[0].nonzero().flatten().tolist() == [1, 2]
    assert (batch.labels[0] != IGNORE).tolist() == batch.mask_B_T[0].tolist()
    assert batch.dropped == {"malformed_turns": 1, "malformed_tokens": 2}
    assert batch.share + batch.dropped["malformed_tokens"] == kept.share


def test_an_empty_microbatch_trains_and_weighs_nothing() -> None:
    for aggregation in Aggregation:
        batch = batch_of(aggregation=aggregation)
        assert not batch.mask_B_T.any()
        assert batch.share == 0.0
