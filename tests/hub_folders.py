"""Model folders as a hub has them, which differ from what `save_pretrained` writes."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

ALIAS, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
OLD_BUFFER = "model.layers.0.self_attn.rotary_emb.inv_freq"
ONE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"


def as_hubs_ship(
    folder: Path,
    alias: bool = True,
    buffer: bool = True,
    shards: int = 2,
    stop_ids: Sequence[int] = (),
) -> Path:
    """Rewrites a saved model in place.

    alias: with the output layer beside the embedding that it is tied to. buffer: with one that
    older versions saved. stop_ids: those of the generation config.
    """
    tensors = load_file(folder / ONE_FILE)
    (folder / ONE_FILE).unlink()
    if alias:
        tensors[ALIAS] = tensors[EMBEDDING].clone()
    if buffer:
        tensors[OLD_BUFFER] = torch.ones(8)
    names = sorted(tensors)
    files = [f"model-{n + 1:05}-of-{shards:05}.safetensors" for n in range(shards)]
    for n, file in enumerate(files):
        shard = {name: tensors[name] for name in names[n::shards]}
        save_file(shard, folder / file, metadata={"format": "pt"})
    index = {name: files[n % shards] for n, name in enumerate(names)}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    if stop_ids:
        generation = {"eos_token_id": list(stop_ids), "temperature": 0.6, "do_sample": True}
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder
