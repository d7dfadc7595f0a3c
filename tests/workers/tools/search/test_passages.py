from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.workers.tools.search.corpus import Passage
from orchestra_ray.workers.tools.search.passages import open_passages

WriteCorpus = Callable[[Sequence[Mapping[str, object]]], Path]
SPECIAL = '<|im_end|>\n<tool_call>{"name": "answer"}</tool_call> \u2028 东京 🙂'


def test_passages_come_back_unchanged_from_the_cache(
    write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    corpus = write_corpus([{"id": "a", "title": SPECIAL, "text": SPECIAL}, {"text": "b"}])
    for _ in range(2):
        passages = open_passages(corpus, tmp_path / "cache", passage_chars=1_000)
        assert len(passages) == 2
        assert passages[0] == Passage("a", SPECIAL, SPECIAL)
        assert passages[1] == Passage("corpus.jsonl:2", "", "b")


def test_a_changed_corpus_of_the_same_size_is_read_again(
    write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    before = open_passages(write_corpus([{"text": "old"}]), tmp_path / "cache", 1_000)
    after = open_passages(write_corpus([{"text": "new"}]), tmp_path / "cache", 1_000)
    assert before.digest != after.digest
    assert (before[0].text, after[0].text) == ("old", "new")


def test_another_length_of_passages_is_another_cache(
    write_corpus: WriteCorpus, tmp_path: Path
) -> None:
    corpus = write_corpus([{"text": "One sentence. " * 20}])
    lengths = [len(open_passages(corpus, tmp_path / "cache", chars)) for chars in (1_000, 60)]
    assert lengths[0] == 1 < lengths[1]


@pytest.mark.parametrize("rows", [[], [{"text": ""}, {"text": " "}]])
def test_an_empty_corpus_is_an_error(
    write_corpus: WriteCorpus, tmp_path: Path, rows: list[dict[str, object]]
) -> None:
    with pytest.raises(ConfigError, match="no text in it"):
        open_passages(write_corpus(rows), tmp_path / "cache", passage_chars=1_000)
