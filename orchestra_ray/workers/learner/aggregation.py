"""How the losses of tokens become one loss: a weight a token, one sum, one normaliser.

    loss = sum over the trained tokens of weight * value / normaliser

    aggregation  weight of a token                                normaliser: the number of
    token        1                                                trained tokens
    turn         1 / trained tokens of its turn                   turns
    sequence     1 / trained tokens of its sequence               sequences
    episode      1 / response tokens of its episode's sequences   episodes
    constant     1 / constant_tokens                              sequences

The normaliser is that of the whole optimizer batch, so the losses of micro-batches and ranks add
up. Invariant: it is the sum of the weights, save for `constant`, which is no mean (Dr. GRPO, arXiv
2503.20783). What has no trained token counts nowhere.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from orchestra_ray.config.schema import Aggregation
from orchestra_ray.core.records import Turn


def token_weights(
    trained_T: np.ndarray,
    turns: Sequence[Turn],
    aggregation: Aggregation,
    constant_tokens: int,
    episode_tokens: int | None = None,
) -> np.ndarray:
    """float64 [T]: the weights of one sequence's tokens; those of untrained ones mean nothing.

    episode_tokens: response tokens of all sequences of the episode; None where it is one sequence.
    Raises ValueError where the weights depend on turns and a trained token is in none.
    """
    match aggregation:
        case Aggregation.TOKEN:
            share = 1.0
        case Aggregation.TURN:
            trained_of_turns = [int(trained_T[turn.start : turn.end].sum()) for turn in turns]
            shares = [1.0 / max(trained, 1) for trained in trained_of_turns]
            return spread(shares, turns, trained_T)
        case Aggregation.SEQUENCE:
            share = 1.0 / max(int(trained_T.sum()), 1)
        case Aggregation.EPISODE:
            share = 1.0 / max(episode_tokens or int(trained_T.sum()), 1)
        case Aggregation.CONSTANT:
            share = 1.0 / constant_tokens
    return np.full(trained_T.shape, share)


def spread(values: Sequence[float], turns: Sequence[Turn], trained_T: np.ndarray) -> np.ndarray:
    """float64 [T]: each turn's value on its tokens, 0 elsewhere.

    Raises ValueError where there is not one value a turn, or a trained token is in no turn.
    """
    if len(values) != len(turns):
        raise ValueError(f"{len(values)} values for {len(turns)} turns")
    spread_T, in_a_turn_T = np.zeros(trained_T.shape), np.zeros(trained_T.shape, bool)
    for value, turn in zip(values, turns, strict=True):
        spread_T[turn.start : turn.end] = value
        in_a_turn_T[turn.start : turn.end] = True
    if (trained_T & ~in_a_turn_T).any():
        raise ValueError("a token counts as sampled and is in no turn")
    return spread_T


def share_of_normaliser(weights_B_T: Tensor, mask_B_T: Tensor, aggregation: Aggregation) -> Tensor:
    """What these sequences add to the normaliser of their optimizer batch, a scalar."""
    if aggregation is Aggregation.CONSTANT:
        return mask_B_T.any(-1).sum().to(weights_B_T.dtype)
    return torch.where(mask_B_T, weights_B_T, 0.0).sum()


def aggregate(
    values_B_T: Tensor,
    mask_B_T: Tensor,
    aggregation: Aggregation,
    normaliser: float | None = None,
    weights_B_T: Tensor | None = None,
) -> Tensor:
    """The one reduction of the loss, a scalar.

    `normaliser` of None takes this tensor's own; weights of None are made from the mask, which
    tells tokens and sequences. Raises ValueError where it cannot tell them.
    """
    if weights_B_T is None:
        weights_B_T = _weights_of_mask(mask_B_T, aggregation).to(values_B_T.dtype)
    total = torch.where(mask_B_T, weights_B_T * values_B_T, 0.0).sum()
    if normaliser is not None:
        return total / (normaliser or 1.0)
    own = share_of_normaliser(weights_B_T, mask_B_T, aggregation)
    return total / torch.where(own > 0, own, 1.0)


def _weights_of_mask(mask_B_T: Tensor, aggregation: Aggregation) -> Tensor:
    match aggregation:
        case Aggregation.TOKEN:
            return torch.ones_like(mask_B_T)
        case Aggregation.SEQUENCE:
            lengths_B_1 = mask_B_T.sum(-1, keepdim=True).clamp(min=1)
            return (1.0 / lengths_B_1.double()).expand(mask_B_T.shape)
        case _:
            raise ValueError(f"aggregation {aggregation} needs weights: see token_weights")
