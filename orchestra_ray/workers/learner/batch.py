"""Trajectories as tensors, in one of two layouts that give the same log-probabilities.

padded: [B, T], right-padded, with an attention mask.
packed: [1, N], the sequences one after another, positions restarting at 0 and no attention mask;
        FlashAttention's variable-length kernels and transformers' masks find the borders by them.

Position t predicts token t + 1, so labels, masks and behaviour log-probabilities are shifted left
by one and the last position of a sequence predicts nothing. The inputs of the loss are [B, T] in
both layouts; `Microbatch.rows` converts the model's output.

Invariant: every sampled token is either trained, or dropped and counted by reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from orchestra_ray.config.learning import LossConfig
from orchestra_ray.core.records import Trajectory
from orchestra_ray.core.states import Stop
from orchestra_ray.workers.learner.aggregation import share_of_normaliser, spread, token_weights

IGNORE = -100  # the label of a position whose next token was not sampled by the policy

_NOTHING = Trajectory(
    episode_id="",
    tokens_T=np.zeros(1, np.int32),
    mask_T=np.zeros(1, bool),
    logprobs_T=np.zeros(1, np.float32),
    versions_T=np.full(1, -1, np.int32),
    turns=(),
    ledger=(),
    answer=None,
    stop=Stop.FAILED,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One training sequence, with its advantage: one for all response tokens, or one per turn.

    episode_tokens: response tokens of all training sequences of its episode; None if this is the
    only one.
    """

    trajectory: Trajectory
    advantage: float | Sequence[float]
    episode_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Minibatch:
    """One rank's part of one optimizer step: micro-batches, some of them empty."""

    microbatches: Sequence[Sequence[Sample]]

    @property
    def tokens(self) -> int:
        return sum(len(s.trajectory.tokens_T) for batch in self.microbatches for s in batch)


@dataclass(frozen=True, slots=True, eq=False)
class Microbatch:
    """One forward and backward pass.

    input_ids, position_ids, labels: int64 in the model's layout; attention_mask: int64, or None
    if packed. behaviour_logp_B_T, advantages_B_T, weights_B_T: float32; mask_B_T: bool, the
    trained tokens. lengths_B: without padding. share: part of the normaliser (see `aggregation`).
    dropped: sampled tokens and turns that are not trained, by reason.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    position_ids: Tensor
    labels: Tensor
    mask_B_T: Tensor
    behaviour_logp_B_T: Tensor
    advantages_B_T: Tensor
    weights_B_T: Tensor
    lengths_B: tuple[int, ...]
    share: float
    dropped: Mapping[str, int]

    def rows(self, values: Tensor) -> Tensor:
        """Returns values of the model's layout as [B, T]."""
        if self.attention_mask is not None:
            return values
        return pad_sequence(list(torch.split(values[0], list(self.lengths_B))), batch_first=True)


def collate(
    samples: Sequence[Sample],
    *,
    packed: bool,
    device: torch.device,
    loss: LossConfig | None = None,
) -> Microbatch:
    """Returns the tensors of one micro-batch; without samples, a dummy of one untrained token.

    Raises ValueError if the first token of a trajectory counts as sampled (no position predicts
    it), or if advantages or weights do not match its turns.
    """
    rows = [_row(sample, loss or LossConfig()) for sample in samples or [Sample(_NOTHING, 0.0)]]
    positions = [torch.arange(len(row.ids)) for row in rows]

    def layout(values: list[Tensor], fill: int) -> Tensor:
        if packed:
            return torch.cat(values).unsqueeze(0).to(device)
        return pad_sequence(values, batch_first=True, padding_value=fill).to(device)

    def padded(values: list[Tensor]) -> Tensor:
        return pad_sequence(values, batch_first=True)

    mask_B_T = padded([row.mask for row in rows])
    weights_B_T = padded([row.weights for row in rows])
    aggregation = (loss or LossConfig()).aggregation
    return Microbatch(
        input_ids=layout([row.ids for row in rows], 0),
        attention_mask=None if packed else layout([torch.ones_like(row.ids) for row in rows], 0),
        position_ids=layout(positions, 0),
        labels=layout([row.labels for row in rows], IGNORE),
        mask_B_T=mask_B_T.to(device),
        behaviour_logp_B_T=padded([row.behaviour_logp for row in rows]).to(device),
        advantages_B_T=padded([row.advantages for row in rows]).float().to(device),
        weights_B_T=weights_B_T.float().to(device),
        lengths_B=tuple(len(row.ids) for row in rows),
        share=share_of_normaliser(weights_B_T, mask_B_T, aggregation).item(),
        dropped={
            "malformed_turns": sum(row.malformed_turns for row in rows),
            "malformed_tokens": sum(row.malformed_tokens for row in rows),
        },
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """One sequence, [T]: int64 ids and labels, float64 advantages and weights, shifted."""

    ids: Tensor
    labels: Tensor
    mask: Tensor
    behaviour_logp: Tensor
    advantages: Tensor
    weights: Tensor
    malformed_turns: int
    malformed_tokens: int


def _row(sample: Sample, loss: LossConfig) -> _Row:
    trajectory, turns = sample.trajectory, sample.trajectory.turns
    sampled_T = trajectory.mask_T
    if sampled_T[0]:
        raise ValueError(f"{trajectory.episode_id}: its first token counts as sampled")
    malformed = [turn for turn in turns if loss.drop_malformed_turns and not turn.format_ok]
    trained_T = sampled_T.copy()
    for turn in malformed:
        trained_T[turn.start : turn.end] = False
    try:
        if isinstance(sample.advantage, float | int):
            advantages_T = np.full(trained_T.shape, float(sample.advantage))
        else:
            advantages_T = spread(sample.advantage, turns, trained_T)
        weights_T = token_weights(
            trained_T, turns, loss.aggregation, loss.constant_tokens, sample.episode_tokens
        )
    except ValueError as error:
        raise ValueError(f"{trajectory.episode_id}: {error}") from None
    ids_T, mask = trajectory.tokens_T.astype(np.int64), _shifted(trained_T, False)
    return _Row(
        ids=torch.from_numpy(ids_T),
        labels=torch.where(mask, _shifted(ids_T, IGNORE), IGNORE),
        mask=mask,
        behaviour_logp=_shifted(trajectory.logprobs_T, 0.0),
        advantages=_shifted(advantages_T, 0.0),
        weights=_shifted(weights_T, 0.0),
        malformed_turns=len(malformed),
        malformed_tokens=int(sampled_T.sum() - trained_T.sum()),
    )


def _shifted(values_T: np.ndarray, fill: float) -> Tensor:
    """Returns a copy, as the original is read-only: element t + 1 at t, `fill` at the end."""
    return torch.from_numpy(np.append(values_T[1:], values_T.dtype.type(fill)))
