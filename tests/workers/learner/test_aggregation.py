"""Every aggregation is the mean that it says, and its parts add up."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from orchestra_ray.config.enums import Aggregation
from orchestra_ray.core.records import Turn
from orchestra_ray.workers.learner.aggregation import (
    aggregate,
    share_of_normaliser,
    spread,
    token_weights,
)

CONSTANT = 10
TURNS = (Turn(1, 3, True), Turn(4, 5, True))  # of a prompt, 2 tokens, an observation, 1 token
TRAINED = np.array([False, True, True, False, True])
VALUES = torch.tensor([[9.0, 1.0, 2.0, 9.0, 6.0], [9.0, 4.0, 8.0, 9.0, 5.0]], dtype=torch.float64)
MASK = torch.tensor([TRAINED.tolist(), [False, True, True, False, False]])


def weights_of(aggregation: Aggregation, episode_tokens: int | None = None) -> Tensor:
    """Of two sequences: TURNS, and one turn of two tokens."""
    rows = [
        token_weights(TRAINED, TURNS, aggregation, CONSTANT, episode_tokens),
        token_weights(MASK[1].numpy(), TURNS[:1], aggregation, CONSTANT, episode_tokens),
    ]
    return torch.from_numpy(np.stack(rows))


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        (Aggregation.TOKEN, (1 + 2 + 6 + 4 + 8) / 5),
        (Aggregation.TURN, ((1 + 2) / 2 + 6 + (4 + 8) / 2) / 3),
        (Aggregation.SEQUENCE, ((1 + 2 + 6) / 3 + (4 + 8) / 2) / 2),
        (Aggregation.EPISODE, ((1 + 2 + 6) / 3 + (4 + 8) / 2) / 2),
        (Aggregation.CONSTANT, ((1 + 2 + 6) / CONSTANT + (4 + 8) / CONSTANT) / 2),
    ],
)
def test_an_aggregation_is_the_mean_that_it_names(
    aggregation: Aggregation, expected: float
) -> None:
    loss = aggregate(VALUES, MASK, aggregation, None, weights_of(aggregation))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_an_episode_of_two_sequences_weighs_as_much_as_one_of_one() -> None:
    weights = weights_of(Aggregation.EPISODE, episode_tokens=5)
    assert share_of_normaliser(weights, MASK, Aggregation.EPISODE).item() == pytest.approx(1.0)
    loss = aggregate(VALUES, MASK, Aggregation.EPISODE, None, weights)
    assert loss.item() == pytest.approx((1 + 2 + 6 + 4 + 8) / 5)


@pytest.mark.parametrize("aggregation", [Aggregation.TOKEN, Aggregation.SEQUENCE])
def test_the_mask_alone_tells_tokens_and_sequences(aggregation: Aggregation) -> None:
    by_weights = aggregate(VALUES, MASK, aggregation, None, weights_of(aggregation))
    torch.testing.assert_close(aggregate(VALUES, MASK, aggregation), by_weights)


@pytest.mark.parametrize(
    "aggregation", [Aggregation.TURN, Aggregation.EPISODE, Aggregation.CONSTANT]
)
def test_what_the_mask_does_not_tell_needs_weights(aggregation: Aggregation) -> None:
    with pytest.raises(ValueError, match=f"{aggregation} needs weights"):
        aggregate(VALUES, MASK, aggregation)


@pytest.mark.parametrize("aggregation", list(Aggregation))
def test_nothing_to_train_is_a_loss_of_nothing(aggregation: Aggregation) -> None:
    nothing = torch.zeros_like(MASK)
    weights = weights_of(aggregation)
    assert aggregate(VALUES, nothing, aggregation, None, weights).item() == 0.0
    assert aggregate(VALUES, nothing, aggregation, 0.0, weights).item() == 0.0
    assert share_of_normaliser(weights, nothing, aggregation).item() == 0.0


@given(st.data(), st.sampled_from([a for a in Aggregation if a is not Aggregation.CONSTANT]))
def test_the_normaliser_counts_what_has_a_trained_token(
    data: st.DataObject, aggregation: Aggregation
) -> None:
    lengths = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    ends = np.cumsum(lengths).tolist()
    turns = [Turn(e - n, e, True) for e, n in zip(ends, lengths, strict=True)]
    trained = np.array(data.draw(st.lists(st.booleans(), min_size=ends[-1], max_size=ends[-1])))
    weights = torch.from_numpy(token_weights(trained, turns, aggregation, CONSTANT))
    share = share_of_normaliser(weights[None], torch.from_numpy(trained)[None], aggregation)
    by_turn = sum(bool(trained[turn.start : turn.end].any()) for turn in turns)
    expected = {Aggregation.TOKEN: trained.sum(), Aggregation.TURN: by_turn}
    assert share.item() == pytest.approx(float(expected.get(aggregation, trained.any())))


def test_values_of_turns_lie_on_their_tokens() -> None:
    assert spread([2.0, 3.0], TURNS, TRAINED).tolist() == [0, 2, 2, 0, 3]


@pytest.mark.parametrize(
    ("values", "turns", "message"),
    [
        ([1.0], TURNS, "1 values for 2 turns"),
        ([1.0], TURNS[:1], "a token counts as sampled and is in no turn"),
    ],
)
def test_values_that_do_not_fit_the_turns_are_an_error(
    values: list[float], turns: tuple[Turn, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        spread(values, turns, TRAINED)
