"""Trajectories as tensors, in one of two layouts that give the same log-probabilities.

padded: [B, T], right-padded, with an attention mask.
packed: [1, N], the sequences one after another, positions restarting at 0 and no attention mask;
        FlashAttention's variable-length kernels and transformers' masks see the borders by them.

Position t predicts token t + 1, so labels, masks and behaviour log-probabilities are shifted left
by one and the last position of a sequence predicts nothing. What the loss reads is [B, T] in both
layouts; `Microbatch.rows` brings the model's output there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from orchestra_ray.core.records import Trajectory
from orchestra_ray.core.states import Stop

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
    """One trajectory and the advantage that every response token of it gets."""

    trajectory: Trajectory
    advantage: float


@dataclass(frozen=True, slots=True)
class Minibatch:
    """One rank's part of one optimizer step: micro-batches, some of them empty."""

    normaliser: float
    microbatches: Sequence[Sequence[Sample]]

    @property
    def tokens(self) -> int:
        return sum(len(s.trajectory.tokens_T) for batch in self.microbatches for s in batch)


@dataclass(frozen=True, slots=True, eq=False)
class Microbatch:
    """One forward and backward pass.

    input_ids, position_ids, labels: int64 in the model's layout; attention_mask: int64, or None
    where packed. behaviour_logp_B_T: float32; mask_B_T: bool; advantages_B: float32.
    lengths_B: without padding.
    """

    input_ids: Tensor
    attention_mask: Tensor | None
    position_ids: Tensor
    labels: Tensor
    mask_B_T: Tensor
    behaviour_logp_B_T: Tensor
    advantages_B: Tensor
    lengths_B: tuple[int, ...]

    def rows(self, values: Tensor) -> Tensor:
        """Values in the model's layout as [B, T]."""
        if self.attention_mask is not None:
            return values
        return pad_sequence(list(torch.split(values[0], list(self.lengths_B))), batch_first=True)


def collate(samples: Sequence[Sample], *, packed: bool, device: torch.device) -> Microbatch:
    """The tensors of one micro-batch; no samples make a dummy of one token that trains nothing.

    Raises ValueError where a trajectory's first token counts as sampled: nothing predicts it.
    """
    samples = samples or [Sample(_NOTHING, 0.0)]
    for sample in samples:
        if sample.trajectory.mask_T[0]:
            raise ValueError(f"{sample.trajectory.episode_id}: its first token counts as sampled")
    trajectories = [sample.trajectory for sample in samples]
    ids = [torch.from_numpy(t.tokens_T.astype(np.int64)) for t in trajectories]
    masks = [_shifted(t.mask_T, False) for t in trajectories]
    labels = [
        torch.where(mask, _shifted(t.tokens_T.astype(np.int64), IGNORE), IGNORE)
        for mask, t in zip(masks, trajectories, strict=True)
    ]
    positions = [torch.arange(len(row)) for row in ids]

    def layout(rows: list[Tensor], fill: int) -> Tensor:
        if packed:
            return torch.cat(rows).unsqueeze(0).to(device)
        return pad_sequence(rows, batch_first=True, padding_value=fill).to(device)

    ones = [torch.ones_like(row) for row in ids]
    return Microbatch(
        input_ids=layout(ids, 0),
        attention_mask=None if packed else layout(ones, 0),
        position_ids=layout(positions, 0),
        labels=layout(labels, IGNORE),
        mask_B_T=pad_sequence(masks, batch_first=True).to(device),
        behaviour_logp_B_T=pad_sequence(
            [_shifted(t.logprobs_T, 0.0) for t in trajectories], batch_first=True
        ).to(device),
        advantages_B=torch.tensor([s.advantage for s in samples], dtype=torch.float32).to(device),
        lengths_B=tuple(len(row) for row in ids),
    )


def _shifted(values_T: np.ndarray, fill: float) -> Tensor:
    """Element t is the original's t + 1; the last is `fill`. Copies: the original is read-only."""
    return torch.from_numpy(np.append(values_T[1:], values_T.dtype.type(fill)))
