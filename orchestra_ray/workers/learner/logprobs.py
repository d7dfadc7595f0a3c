"""Log-probabilities of given tokens, and entropies, without the logits of a whole batch.

Only positions with a label pass the output layer, in chunks, and each chunk's logits are recomputed
in the backward pass. Memory for logits is therefore one chunk times the vocabulary, independent of
the length of the batch.
"""

from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from orchestra_ray.workers.learner.batch import IGNORE


class Entropy(StrEnum):
    """Whether a pass computes entropies, at the cost of a softmax per chunk."""

    LEFT_OUT = "left_out"
    MEASURED = "measured"  # without a gradient, so that the backward pass is unchanged
    TRAINED = "trained"


class TokenLogprobs(nn.Module):
    """A causal language model whose output layer is applied to the last hidden state, in chunks.

    `model` keeps its parameters and their Hugging Face names. Raises TypeError if the output layer
    is not linear.
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
        """Returns float32 [B, T]: log-probability of labels[b, t] given the tokens up to t.

        With entropy float32 [2, B, T]: the log-probabilities, then the entropies of the same
        distributions, in nats. Both are at `temperature`, and 0 where the label is IGNORE. The
        tensor arguments are int64 [B, T]. The output depends on every parameter even if no position
        has a label, so that a rank without work takes part in the same collectives.
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
    """Owns the output layer's parameters too, so that ZeRO-3 gathers them once per call.

    Calling the layer itself would gather once per chunk, and ranks differ in their chunks.
    """

    def __init__(self, layer: nn.Linear, chunk_tokens: int):
        super().__init__()
        self.weight = layer.weight
        self.bias = layer.bias
        self.chunk_tokens = chunk_tokens

    def forward(
        self, hidden_N_D: Tensor, labels_N: Tensor, temperature: float, entropy: Entropy
    ) -> Tensor:
        """Returns float32 [1, N], the log-probabilities; with entropy [2, N]."""

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
