"""Log-probabilities of given tokens, and entropies, without ever holding a whole batch's logits.

Only the positions that have a label pass the output layer, a chunk of them at a time, and each
chunk's logits are computed anew in the backward pass. So memory for logits is one chunk times the
vocabulary, whatever the length of the batch.
"""

from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from orchestra_ray.workers.learner.batch import IGNORE


class Entropy(StrEnum):
    """Whether a pass computes the entropies of the distributions; each costs a softmax a chunk."""

    LEFT_OUT = "left_out"
    MEASURED = "measured"  # without a gradient, so that the backward pass stays as it is
    TRAINED = "trained"


class TokenLogprobs(nn.Module):
    """A causal language model whose logits are its output layer applied to its last hidden state.

    `model` keeps its parameters and their Hugging Face names. Raises TypeError where the output
    layer is not linear.
    """

    def __init__(self, model: PreTrainedModel, chunk_tokens: int = 1024):
        super().__init__()
        layer = model.get_output_embeddings()
        if not isinstance(layer, nn.Linear):
            raise TypeError(f"{type(model).__name__}: the output layer is {type(layer).__name__}")
        self.model = model
        self.head = _ChunkedHead(layer, chunk_tokens)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor,
        labels: Tensor,
        temperature: float,
        entropy: Entropy = Entropy.LEFT_OUT,
    ) -> Tensor:
        """float32 [B, T]: log-probability of labels[b, t] after tokens up to t at `temperature`.

        With entropy float32 [2, B, T]: the second are the entropies, in nats, of what the first
        are drawn from. All other arguments are int64 [B, T]. It is 0 where the label is IGNORE.
        The output is connected to every parameter even where no position has a label, so that a
        rank without work takes part in the same collectives.
        """
        hidden = self.model.base_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=False,
        ).last_hidden_state
        chosen = labels != IGNORE
        values_K_N = self.head(hidden[chosen], labels[chosen], temperature, entropy)
        rows = [
            values_N.new_zeros(labels.shape).masked_scatter(chosen, values_N)
            for values_N in values_K_N
        ]
        return rows[0] if entropy is Entropy.LEFT_OUT else torch.stack(rows)


class _ChunkedHead(nn.Module):
    """Shares the output layer's parameters as its own, so that ZeRO-3 gathers them once a call.

    Calling the layer itself would gather once a chunk, and ranks differ in their chunks.
    """

    def __init__(self, layer: nn.Linear, chunk_tokens: int):
        super().__init__()
        self.weight = layer.weight
        self.bias = layer.bias
        self.chunk_tokens = chunk_tokens

    def forward(
        self, hidden_N_D: Tensor, labels_N: Tensor, temperature: float, entropy: Entropy
    ) -> Tensor:
        """float32 [1, N]: the log-probabilities; with entropy [2, N]."""

        def values(hidden: Tensor, labels: Tensor) -> Tensor:
            logits = functional.linear(hidden, self.weight, self.bias).float() / temperature
            if entropy is Entropy.LEFT_OUT:
                return -functional.cross_entropy(logits, labels, reduction="none").unsqueeze(0)
            everything = logits.log_softmax(-1)
            chosen = everything.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
            if entropy is Entropy.MEASURED:
                everything = everything.detach()
            return torch.stack([chosen, -(everything.exp() * everything).sum(-1)])

        chunks = zip(
            hidden_N_D.split(self.chunk_tokens), labels_N.split(self.chunk_tokens), strict=True
        )
        return torch.cat([checkpoint(values, h, t, use_reentrant=False) for h, t in chunks], -1)
