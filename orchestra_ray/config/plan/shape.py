"""The dimensions of the policy and its number of parameters.

Their source is the model's folder, `model.tiny`, or `model.shape`.
"""

import json
from pathlib import Path

from orchestra_ray.config.errors import BadValue
from orchestra_ray.config.schema import Config, ShapeConfig, TinyModelConfig

TINY_POSITIONS = 2_048


def model_shape(config: Config) -> ShapeConfig:
    """Returns the dimensions of the policy; raises `BadValue` if they are unknown."""
    model = config.model
    if model.tiny is not None:
        return _tiny_shape(model.tiny)
    if model.path is not None and Path(model.path).exists():
        return folder_shape(Path(model.path))
    if model.shape is None:
        problem = f"the dimensions of {model.path} are unknown, as it is no folder here"
        raise BadValue("model.shape", problem, "give layers, hidden_size and the others")
    return model.shape


def folder_shape(folder: Path) -> ShapeConfig:
    """Returns the dimensions in a Hugging Face folder's config.json; raises `BadValue` without one.

    Missing numbers of key heads and head sizes have the defaults of Hugging Face.
    """
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        heads, hidden_size = int(raw["num_attention_heads"]), int(raw["hidden_size"])
        return ShapeConfig(
            layers=int(raw["num_hidden_layers"]),
            hidden_size=hidden_size,
            intermediate_size=int(raw["intermediate_size"]),
            heads=heads,
            kv_heads=int(raw.get("num_key_value_heads", heads)),
            head_dim=int(raw.get("head_dim", hidden_size // heads)),
            vocab_size=int(raw["vocab_size"]),
            tied_embeddings=bool(raw.get("tie_word_embeddings", False)),
            max_positions=int(raw["max_position_embeddings"]),
        )
    except KeyError as error:
        kind = raw.get("model_type", "unknown")
        raise _bad_folder(f"{path} has no {error.args[0]} (model_type {kind})") from None
    except OSError as error:
        raise _bad_folder(
            f"{path} cannot be read: {error.strerror}{_hint_at_policy(folder)}"
        ) from None
    except (ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise _bad_folder(f"{path} is no configuration of a decoder: {error}") from None


def parameter_count(shape: ShapeConfig) -> int:
    """Returns the parameters of a Qwen3-like decoder (grouped queries, gated MLP, no biases).

    A layer has q, k, v and o projections, a norm of each head's queries and keys, a gate, an up
    and a down projection, and two norms. Outside the layers are the embedding, a last norm and an
    output layer, unless it is tied to the embedding (Qwen3 technical report, arXiv 2505.09388,
    and `transformers.models.qwen3`).
    """
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = shape.hidden_size * (2 * queries + 2 * keys) + 2 * shape.head_dim
    mlp = 3 * shape.hidden_size * shape.intermediate_size
    layer = attention + mlp + 2 * shape.hidden_size
    embeddings = shape.vocab_size * shape.hidden_size * (1 if shape.tied_embeddings else 2)
    return shape.layers * layer + embeddings + shape.hidden_size


def _tiny_shape(tiny: TinyModelConfig) -> ShapeConfig:
    return ShapeConfig(
        layers=tiny.layers,
        hidden_size=tiny.hidden_size,
        intermediate_size=tiny.intermediate_size,
        heads=tiny.heads,
        kv_heads=tiny.kv_heads,
        head_dim=tiny.hidden_size // tiny.heads,
        vocab_size=tiny.vocab_size,
        tied_embeddings=False,
        max_positions=TINY_POSITIONS,
    )


def _hint_at_policy(folder: Path) -> str:
    """Returns a hint at the newest policy in the folder, if it is a run's or a checkpoint's."""
    policies = [folder / "policy", *folder.glob("checkpoints/*/policy")]
    there = [policy for policy in policies if (policy / "config.json").is_file()]
    newest = max(there, key=lambda policy: policy.stat().st_mtime, default=None)
    return "" if newest is None else f"; did you mean {newest}?"


def _bad_folder(problem: str) -> BadValue:
    return BadValue("model.path", problem, "give a model's folder in Hugging Face format")
