"""Makes the tiny policy: tokenizer, random Qwen3 model, supervised steps; cached by content.

The folder gets its final name only when it is complete.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Qwen3Config, Qwen3ForCausalLM
from transformers.utils import logging as transformers_logging

from orchestra_ray.config.schema import Config, TinyModelConfig
from orchestra_ray.core.records import Preference
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.sft.demonstrations import Demonstration, Demonstrator
from orchestra_ray.sft.key import policy_key
from orchestra_ray.sft.tokenizer import train_tokenizer
from orchestra_ray.workers.rollout.chat import Chat

TOKENIZER_TEXTS = 1_500
SORTED_BATCHES = 8  # batches whose demonstrations are sorted by length together
OTHERS_LR = 3e-3  # of the parameters that Muon does not train
# The choice depends on the last word of the instruction, just before it. That word is visible only
# while the embedding is larger than the layers' output, which grows a thousandfold without a decay.
EMBEDDING_STD = 2.0
MUON_DECAY = 0.5
STEADY = 30.0  # factor, at the end, on the matrices whose scale is free
Advance = Callable[[int, float], None]


def make_policy(
    config: Config,
    catalogue: Catalogue,
    preferences: Sequence[Preference],
    advance: Advance = lambda step, loss: None,
) -> Path:
    """Returns the folder of the policy in Hugging Face format; makes it if it is not cached.

    `advance(step, loss)` is called after each supervised step.
    """
    tiny = config.model.tiny
    assert tiny is not None
    cache = Path(config.model.cache_dir).expanduser()
    folder = cache / f"tiny-{policy_key(config, catalogue, preferences)}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=cache))
    try:
        demonstrator = Demonstrator(config, catalogue, preferences)
        texts = (text for n in range(TOKENIZER_TEXTS) for text in demonstrator.texts(n))
        train_tokenizer(texts, tiny.vocab_size).save_pretrained(unfinished)
        chat = Chat(str(unfinished), config.model.chat_template)
        model = build_model(tiny, chat)
        warm_start(model, chat, demonstrator, tiny, advance)
        steady(model)
        transformers_logging.disable_progress_bar()  # the warm start has its own bar
        model.save_pretrained(unfinished)
        os.replace(unfinished, folder)
    except OSError:
        if not folder.exists():  # another process may have made it
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def build_model(tiny: TinyModelConfig, chat: Chat) -> Qwen3ForCausalLM:
    """Returns a random Qwen3 of the given shape; the embedding exceeds the layers' output."""
    torch.manual_seed(tiny.seed)
    shape = Qwen3Config(
        vocab_size=tiny.vocab_size,
        hidden_size=tiny.hidden_size,
        intermediate_size=tiny.intermediate_size,
        num_hidden_layers=tiny.layers,
        num_attention_heads=tiny.heads,
        num_key_value_heads=tiny.kv_heads,
        head_dim=tiny.hidden_size // tiny.heads,
        max_position_embeddings=2_048,
        tie_word_embeddings=False,
        eos_token_id=chat.end_id,
        pad_token_id=chat.control_ids["<|endoftext|>"],
        bos_token_id=None,
    )
    model = Qwen3ForCausalLM(shape)
    torch.nn.init.normal_(model.model.embed_tokens.weight, std=EMBEDDING_STD)
    return model


def warm_start(
    model: Qwen3ForCausalLM,
    chat: Chat,
    demonstrator: Demonstrator,
    tiny: TinyModelConfig,
    advance: Advance,
) -> None:
    """Trains next-token prediction of the targets; the rates rise over 20 steps, then fall."""
    optimizers = _optimizers(model, tiny)
    schedules = [LambdaLR(each, lambda step: _rate(step, tiny.warmup_steps)) for each in optimizers]
    batches = _batches(chat, demonstrator, tiny.warmup_batch)
    for step in range(tiny.warmup_steps):
        loss = _loss(model, next(batches))
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for each in (*optimizers, *schedules):
            each.step()
        advance(step + 1, loss.item())


def steady(model: Qwen3ForCausalLM) -> None:
    """Scales up the weights that read the prompt, without a change of the model's function.

    Adam's steps have one size for every weight. The norms undo the scale of queries, of keys and of
    the residual stream, which sums the embedding and products of two matrices. So these weights can
    be large, which protects them from training's steps; the head is trained instead.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            kind = name.split(".")[-2]
            if kind == "embed_tokens":
                parameter.mul_(STEADY**2)
            elif kind.endswith("_proj") and kind != "gate_proj":
                parameter.mul_(STEADY)


def _optimizers(model: Qwen3ForCausalLM, tiny: TinyModelConfig) -> list[torch.optim.Optimizer]:
    """Returns Muon for the layers' matrices, AdamW for the embedding, the head and the norms.

    AdamW alone needs three times the steps until the thought copies the prompt's names.
    """
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and name.startswith("model.layers.")
        (matrices if is_matrix else others).append(parameter)
    return [
        torch.optim.Muon(matrices, lr=tiny.warmup_lr, weight_decay=MUON_DECAY),
        torch.optim.AdamW(others, lr=OTHERS_LR, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _rate(step: int, steps: int) -> float:
    """Returns the fraction of the learning rate: linear up, then linear down to a tenth."""
    return min(1.0, (step + 1) / 20) * (1 - 0.9 * step / max(1, steps))


def _batches(
    chat: Chat, demonstrator: Demonstrator, size: int
) -> Iterator[Sequence[Demonstration]]:
    """Yields batches of demonstrations of about one length, to save padding."""
    for first in count(0, SORTED_BATCHES * size):
        numbers = range(first, first + SORTED_BATCHES * size)
        by_length = sorted(
            chain.from_iterable(demonstrator.make(chat, n) for n in numbers), key=len
        )
        batches = [by_length[i : i + size] for i in range(0, len(by_length), size)]
        random.Random(first).shuffle(batches)
        yield from batches


def _loss(model: Qwen3ForCausalLM, batch: Sequence[Demonstration]) -> torch.Tensor:
    """Returns the mean cross-entropy over the targets; the head runs on their positions only."""
    longest = max(len(demo.tokens) for demo in batch)
    tokens_B_T = torch.zeros(len(batch), longest, dtype=torch.long)
    trained_B_T = torch.zeros(len(batch), longest, dtype=torch.bool)
    for row, demo in enumerate(batch):
        tokens_B_T[row, : len(demo.tokens)] = torch.tensor(demo.tokens)
        trained_B_T[row, : len(demo.trained)] = torch.tensor(demo.trained)
    # Right padding comes after every target token, so the causal mask alone hides it.
    hidden_B_T_D = model.model(input_ids=tokens_B_T).last_hidden_state
    predicts_B_T = trained_B_T[:, 1:]
    logits_N_V = model.lm_head(hidden_B_T_D[:, :-1][predicts_B_T])
    return torch.nn.functional.cross_entropy(logits_N_V, tokens_B_T[:, 1:][predicts_B_T])
