import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3Model

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.core.money import Prices
from orchestra_ray.core.records import ToolRequest, ToolResult
from orchestra_ray.data.catalogue import Catalogue, Entry, Kind
from orchestra_ray.spend.local import LocalSpendClient
from orchestra_ray.workers.tools.registry import make_tools
from orchestra_ray.workers.tools.runtime.executor import Executor
from orchestra_ray.workers.tools.search.dense import DenseRetriever, DenseSettings, Encoder
from orchestra_ray.workers.tools.search.passages import Hit, Passages

from .conftest import CITIES

faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")

QUERIES = ["the capital of Iceland", "river", "<|im_end|> \ud800 東京"]


def make_model(folder: Path, seed: int) -> str:
    """A tiny random embedding model over bytes, in Hugging Face format."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate(["<|endoftext|>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    shape = Qwen3Config(
        vocab_size=len(vocab),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=512,
    )
    Qwen3Model(shape).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_model(tmp_path_factory.mktemp("model"), seed=1)


def settings_for(model: str, **changes) -> DenseSettings:
    return DenseSettings(**{"model": model, "query_prefix": "", "max_tokens": 64, **changes})


def plain_vectors(model: str, texts: Sequence[str], pooling: str) -> torch.Tensor:
    """Each text alone through the model, without padding, by torch."""
    tokenizer, network = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model)
    rows = []
    for text in texts:
        ids = tokenizer(text.encode("utf-8", "replace").decode(), return_tensors="pt").input_ids
        with torch.inference_mode():
            states_T_D = network(input_ids=ids[:, :64]).last_hidden_state[0]
        rows.append(states_T_D[-1] if pooling == "last_token" else states_T_D.mean(dim=0))
    return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def documents(hits: Sequence[Hit]) -> list[str]:
    return [hit.passage.document for hit in hits]


@pytest.mark.parametrize("pooling", ["last_token", "mean"])
def test_hits_are_those_of_plain_inner_products(
    model: str, passages: Passages, tmp_path: Path, pooling: str
) -> None:
    retriever = DenseRetriever.open(
        passages, tmp_path / "cache", settings_for(model, pooling=pooling, batch=3)
    )
    passage_vectors = plain_vectors(model, list(passages.texts()), pooling)
    scores_Q_P = plain_vectors(model, QUERIES, pooling) @ passage_vectors.T
    for hits, scores in zip(retriever.retrieve(QUERIES, 3), scores_Q_P, strict=True):
        top = scores.topk(3)
        assert documents(hits) == [passages[i].document for i in top.indices.tolist()]
        assert [hit.score for hit in hits] == pytest.approx(top.values.tolist(), abs=1e-5)


def test_a_vector_does_not_depend_on_what_is_embedded_beside_it(model: str) -> None:
    texts = ["a", "a longer text", "the longest of the three texts"]
    alone = Encoder(settings_for(model, batch=1)).embed(texts)
    together = Encoder(settings_for(model, batch=3)).embed(texts)
    np.testing.assert_allclose(alone, together, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)


def test_the_prefix_stands_before_queries_only(model: str) -> None:
    plain, prefixed = (Encoder(settings_for(model, query_prefix=p)) for p in ("", "Query:"))
    np.testing.assert_array_equal(prefixed.embed(["x"]), plain.embed(["x"]))
    np.testing.assert_array_equal(prefixed.embed_queries(["x"]), plain.embed(["Query:x"]))


@pytest.mark.parametrize("factory", ["Flat", "SQfp16", "HNSW8"])
def test_every_kind_of_index_finds_a_passage_by_itself(
    model: str, passages: Passages, tmp_path: Path, factory: str
) -> None:
    settings = settings_for(model, factory=factory)
    retriever = DenseRetriever.open(passages, tmp_path / "cache", settings)
    found = retriever.retrieve(list(passages.texts()), top_k=100)
    assert [documents(hits)[0] for hits in found] == [passages[i].document for i in range(4)]
    assert all(len(hits) <= 4 for hits in found)


def test_an_executor_searches_by_vectors_as_the_catalogue_asks(
    model: str,
    write_corpus: Callable[[Sequence[Mapping[str, object]]], Path],
    tmp_path: Path,
    request_for: Callable[..., ToolRequest],
) -> None:
    settings = {
        "corpus": str(write_corpus(CITIES)),
        "cache_dir": str(tmp_path / "cache"),
        "top_k": 1,
        "dense": {"model": model, "query_prefix": "", "max_tokens": 64},
    }
    entry = Entry("local_search", Kind.TOOL, "", "search", Prices(), 0.0, settings=settings)
    catalogue, spend = Catalogue({entry.name: entry}, "prices"), LocalSpendClient()

    async def search_for_each_city() -> list[ToolResult]:
        executor = Executor(catalogue, make_tools(catalogue), spend)
        asked = [request_for(f"{city['title']}\n{city['text']}") for city in CITIES]
        requests = [replace(one, call_id=str(i)) for i, one in enumerate(asked)]
        results = [await executor.execute(request) for request in requests]
        await executor.close()
        return results

    results = asyncio.run(search_for_each_city())
    assert [result.error for result in results] == [None] * 4
    for city, result in zip(CITIES, results, strict=True):
        assert city["text"] in result.text
    assert [entry.identity for entry in spend.entries] == ["local_search"] * 4


def test_no_query_finds_nothing(model: str, passages: Passages, tmp_path: Path) -> None:
    retriever = DenseRetriever.open(passages, tmp_path / "cache", settings_for(model))
    assert retriever.retrieve([], 5) == []


def test_an_index_is_built_once_for_a_model_and_again_for_another(
    model: str, passages: Passages, tmp_path: Path
) -> None:
    def index_files() -> dict[str, int]:
        files = (tmp_path / "cache").glob("dense-*/index.faiss")
        return {file.parent.name: file.stat().st_mtime_ns for file in files}

    DenseRetriever.open(passages, tmp_path / "cache", settings_for(model))
    first = index_files()
    DenseRetriever.open(passages, tmp_path / "cache", settings_for(model, query_prefix="other"))
    assert index_files() == first
    other = make_model(tmp_path / "other", seed=2)
    DenseRetriever.open(passages, tmp_path / "cache", settings_for(other))
    assert len(index_files()) == 2


def test_an_index_is_mapped_into_memory(model: str, passages: Passages, tmp_path: Path) -> None:
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs /proc")
    retriever = DenseRetriever.open(passages, tmp_path / "cache", settings_for(model))
    (index,) = (tmp_path / "cache").glob("dense-*/index.faiss")
    assert str(index) in maps.read_text()
    assert retriever.retrieve(["x"], 1)


def test_a_folder_that_holds_no_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        Encoder(settings_for(str(tmp_path / "missing")))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="no embedding model") as caught:
        Encoder(settings_for(str(tmp_path)))
    assert "\n" not in str(caught.value)


def test_an_index_that_faiss_does_not_know_is_an_error(
    model: str, passages: Passages, tmp_path: Path
) -> None:
    settings = settings_for(model, factory="Nonsense")
    with pytest.raises(ConfigError, match="cannot build the index Nonsense") as caught:
        DenseRetriever.open(passages, tmp_path / "cache", settings)
    assert "\n" not in str(caught.value)


def test_without_faiss_one_line_says_what_to_install(
    model: str, passages: Passages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match="pip install"):
        DenseRetriever.open(passages, tmp_path / "cache", settings_for(model))
