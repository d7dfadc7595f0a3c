"""Dense retrieval: inner products of normalised vectors, with faiss and a local embedding model.

Optional: faiss, torch and transformers are imported when a retriever is opened. The index is mapped
into memory; each process loads the model. Scores may differ in their last digits between batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from orchestra_ray.core.errors import ConfigError, first_line
from orchestra_ray.workers.tools.search.index_cache import digest, open_cached
from orchestra_ray.workers.tools.search.passages import Hit, Passages
from orchestra_ray.workers.tools.search.text import encodable

if TYPE_CHECKING:
    import numpy as np
    import torch

QWEN3_PREFIX = "Instruct: Given a search query, retrieve relevant passages\nQuery:"
_INDEX = "index.faiss"


@dataclass(frozen=True, slots=True)
class DenseSettings:
    """The defaults are those of Qwen3-Embedding."""

    model: str  # a local folder in Hugging Face format
    pooling: Literal["last_token", "mean"] = "last_token"
    query_prefix: str = QWEN3_PREFIX
    max_tokens: int = 512  # of a passage or query; the rest is cut
    batch: int = 32  # texts that the model embeds at once
    factory: str = "Flat"  # faiss index factory string; "Flat" is exact
    device: str = "cpu"


class DenseRetriever:
    def __init__(self, passages: Passages, encoder: "Encoder", folder: Path):
        import faiss

        self._passages, self._encoder = passages, encoder
        self._index: Any = faiss.read_index(str(folder / _INDEX), faiss.IO_FLAG_MMAP_IFC)

    @classmethod
    def open(cls, passages: Passages, cache_dir: Path, settings: DenseSettings) -> "DenseRetriever":
        """Opens the index over `passages`, and builds it if it is not in the cache."""
        _require_faiss()
        encoder = Encoder(settings)
        key = digest(
            encoder.files,
            passages=passages.digest,
            pooling=settings.pooling,
            max_tokens=settings.max_tokens,
            factory=settings.factory,
        )

        def build(folder: Path) -> None:
            _build(folder, encoder.embed(list(passages.texts())), settings.factory)

        return cls(passages, encoder, open_cached(cache_dir / f"dense-{key}", build))

    def retrieve(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        if not queries:
            return []
        vectors = self._encoder.embed_queries(queries)
        scores, positions = self._index.search(vectors, min(top_k, len(self._passages)))
        return [self._hits(*row) for row in zip(scores.tolist(), positions.tolist(), strict=True)]

    def _hits(self, scores: list[float], positions: list[int]) -> list[Hit]:
        ranked = sorted(zip(scores, positions, strict=True), key=lambda hit: (-hit[0], hit[1]))
        found = ((score, at) for score, at in ranked if at >= 0)  # -1 pads if the index found fewer
        return [Hit(self._passages[at], score) for score, at in found]


class Encoder:
    """An embedding model with normalised vectors."""

    def __init__(self, settings: DenseSettings):
        import torch
        from transformers import AutoModel, AutoTokenizer

        self._settings = settings
        folder = Path(settings.model).expanduser()
        if not folder.is_dir():
            raise ConfigError(f"search: no folder {folder}; put the embedding model there")
        self.files = {path.name: path for path in folder.iterdir() if path.is_file()}
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        except (OSError, ValueError) as error:
            reason = first_line(error)
            raise ConfigError(f"search: {folder} is no embedding model: {reason}") from None
        self._tokenizer.padding_side = "right"  # as the pooling functions expect
        self._tokenizer.pad_token = self._tokenizer.pad_token or self._tokenizer.eos_token
        self._model = model.to(settings.device).eval()

    def embed_queries(self, queries: Sequence[str]) -> "np.ndarray":
        return self.embed([self._settings.query_prefix + query for query in queries])

    def embed(self, texts: Sequence[str]) -> "np.ndarray":
        """Returns one row per text, float32."""
        import numpy as np

        size = self._settings.batch
        starts = range(0, len(texts), size)
        return np.concatenate([self._embed(texts[i : i + size]) for i in starts])

    def _embed(self, texts: Sequence[str]) -> "np.ndarray":
        import torch

        tokens = self._tokenizer(
            [encodable(text) for text in texts],
            padding=True,
            truncation=True,
            max_length=self._settings.max_tokens,
            return_tensors="pt",
        ).to(self._settings.device)
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state
            pooled = _POOLINGS[self._settings.pooling](states, tokens["attention_mask"])
            return torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()


def last_token(states_B_T_D: "torch.Tensor", mask_B_T: "torch.Tensor") -> "torch.Tensor":
    rows = mask_B_T.new_tensor(range(len(mask_B_T)))
    return states_B_T_D[rows, mask_B_T.sum(dim=1) - 1]


def mean(states_B_T_D: "torch.Tensor", mask_B_T: "torch.Tensor") -> "torch.Tensor":
    weights = mask_B_T.unsqueeze(-1).to(states_B_T_D.dtype)
    return (states_B_T_D * weights).sum(dim=1) / weights.sum(dim=1)


_POOLINGS = {"last_token": last_token, "mean": mean}


def _build(folder: Path, vectors: "np.ndarray", factory: str) -> None:
    import faiss

    try:
        index: Any = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors)
        index.add(vectors)
    except RuntimeError as error:
        reason = first_line(error)
        raise ConfigError(f"search: faiss cannot build the index {factory}: {reason}") from None
    faiss.write_index(index, str(folder / _INDEX))


def _require_faiss() -> None:
    try:
        import faiss  # noqa: F401
    except ImportError:
        raise ConfigError(
            "search: dense retrieval needs faiss; pip install 'orchestra-ray[dense]'"
        ) from None
