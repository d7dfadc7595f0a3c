"""Aggregation of token losses into one loss: a weight per token, one sum, one normaliser.

    loss = sum over the trained tokens of weight * value / normaliser

    aggregation  weight of a token                                normaliser: the number of
    token        1                                                trained tokens
    turn         1 / trained tokens of its turn                   turns
    sequence     1 / trained tokens of its sequence               sequences
    episode      1 / response tokens of its episode's sequences   episodes
    constant     1 / constant_tokens                              sequences

The normaliser is that of the whole optimizer batch, so the losses of micro-batches and ranks add
up. Invariant: it is the sum of the weights, except for `constant`, which is not a mean (Dr. GRPO,
arXiv 2503.20783). Turns, sequences and episodes without a trained token are not counted.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from orchestra_ray.config.enums import Aggregation
from orchestra_ray.core.records import Turn


def token_weights(
    trained_T: np.ndarray,
    turns: Sequence[Turn],
    aggregation: Aggregation,
    constant_tokens: int,
    episode_tokens: int | None = None,
) -> np.ndarray:
    """Returns float64 [T]: the weights of one sequence's tokens, arbitrary for untrained ones.

    episode_tokens: response tokens of all sequences of the episode; None if it has one sequence.
    Raises ValueError if the weights depend on turns and a trained token is in no turn.
    """
    match aggregation:
        case Aggregation.TOKEN:
            weight = 1.0
        case Aggregation.TURN:
            trained_of_turns = [int(trained_T[turn.start : turn.end].sum()) for turn in turns]
            weights = [1.0 / max(trained, 1) for trained in trained_of_turns]
            return spread(weights, turns, trained_T)
        case Aggregation.SEQUENCE:
            weight = 1.0 / max(int(trained_T.sum()), 1)
        case Aggregation.EPISODE:
            weight = 1.0 / max(episode_tokens or int(trained_T.sum()), 1)
        case Aggregation.CONSTANT:
            weight = 1.0 / constant_tokens
    return np.full(trained_T.shape, weight)


def spread(values: Sequence[float], turns: Sequence[Turn], trained_T: np.ndarray) -> np.ndarray:
    """Returns float64 [T]: each turn's value on its tokens, 0 elsewhere.

    Raises ValueError if there is not one value per turn, or a trained token is in no turn.
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
    """Returns the part of these sequences in their optimizer batch's normaliser, a scalar."""
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
    """Returns the loss, a scalar: the weighted sum over trained tokens divided by `normaliser`.

    normaliser: None stands for that of this tensor alone. weights: None derives them from the mask.
    Raises ValueError if an aggregation other than by token or sequence has no weights.
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
