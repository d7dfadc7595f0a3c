"""Why catalogue entries cannot be called on this machine."""

from pathlib import Path

import pytest

from orchestra_ray.data.catalogue import Catalogue, load_catalogue
from orchestra_ray.workers.tools import availability
from orchestra_ray.workers.tools.availability import has_faiss, is_set, keys_of, unavailable_entries

KEYS = ("OPENAI_API_KEY", "TOGETHER_API_KEY", "NVIDIA_API_KEY", "TAVILY_API_KEY")
FILE = """
models:
  - {name: nova, description: d, backend: simulated}
  - name: far
    description: d
    backend: endpoint
    settings: {base_urls: [http://localhost:1/v1], model: m, api_key_env: FAR_KEY}
tools:
  - {name: odd, description: d, backend: calculator, settings: {colour: red}}
  - {name: web, description: d, backend: web_search, offered: false}
  - {name: local, description: d, backend: search, settings: {corpus: {CORPUS}}}
  - name: dense
    description: d
    backend: search
    settings: {corpus: {CORPUS}, dense: {model: no-model}}
  - name: recipe
    description: d
    backend: recipe
    runs: web
    choices: [{name: r-1, model: nova, description: d, latency_s: 1}]
  - name: far-recipe
    description: d
    backend: recipe
    choices: [{name: f-1, model: far, description: d, latency_s: 1}]
"""


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    for name in (*KEYS, "FAR_KEY"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "mine.yaml"
    path.write_text(FILE.replace("{CORPUS}", str(tmp_path / "corpus")))
    return load_catalogue(path)


def test_each_says_what_to_do(made: Catalogue) -> None:
    why = unavailable_entries(made)
    assert "FAR_KEY is not set; export it" in why["far"]
    assert "settings.colour: no such setting" in why["odd"]
    assert "TAVILY_API_KEY" in why["web"]
    assert "does not exist" in why["local"] and "correct settings.corpus" in why["local"]
    assert why["recipe"] == "recipe cannot run without web"
    assert why["far-recipe"] == "far-recipe cannot run without far"
    assert "nova" not in why


def test_what_is_provided_is_not_lacking(
    made: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corpus").mkdir()
    monkeypatch.setenv("FAR_KEY", "k")
    monkeypatch.setenv("TAVILY_API_KEY", "k")
    monkeypatch.setattr(availability, "has_faiss", lambda: True)
    assert unavailable_entries(made).keys() == {"odd"}


def test_dense_retrieval_lacks_faiss_where_it_is_not_installed(
    made: Catalogue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "corpus").mkdir()
    monkeypatch.setattr(availability, "has_faiss", lambda: False)
    why = unavailable_entries(made)
    assert "pip install 'orchestra-ray[dense]'" in why["dense"] and "local" not in why


def test_whether_faiss_is_there_is_whether_it_can_be_imported() -> None:
    try:
        import faiss  # noqa: F401
    except ImportError:
        assert not has_faiss()
    else:
        assert has_faiss()


def test_keys_are_named_with_whom_they_are_for(made: Catalogue) -> None:
    assert keys_of(made) == {"FAR_KEY": ["far"]}
    paper = load_catalogue("configs/catalogues/paper.yaml")
    assert set(keys_of(paper)) == set(KEYS) - {"TAVILY_API_KEY"}


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, known in (("k", True), (" ", False), ("", False)):
        monkeypatch.setenv("FAR_KEY", value)
        assert is_set("FAR_KEY") is known
