import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.workers.tools.search.corpus import Passage, corpus_files, read_passages


def read(corpus: Path, passage_chars: int = 1_000) -> list[Passage]:
    return list(read_passages(corpus_files(corpus), passage_chars))


def test_a_folder_is_read_at_any_depth_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "deep.md").write_text("In Markdown.")
    (tmp_path / "a.jsonl").write_text('{"title": "T", "contents": "In a row."}\n\n{"text": "2"}\n')
    (tmp_path / "c.txt").write_text("\ufeffNaïve text, with a mark of its order.")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / ".hidden.txt").write_text("hidden")
    assert read(tmp_path) == [
        Passage("a.jsonl:1", "T", "In a row."),
        Passage("a.jsonl:3", "", "2"),
        Passage("b/deep.md", "b/deep", "In Markdown."),
        Passage("c.txt", "c", "Naïve text, with a mark of its order."),
    ]


@pytest.mark.parametrize("key", ["text", "contents", "content"])
@pytest.mark.parametrize(("identity", "document"), [("x", "x"), (7, "7"), (None, "corpus.jsonl:1")])
def test_a_row_names_its_fields_in_the_usual_ways(
    tmp_path: Path, key: str, identity: str | int | None, document: str
) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text(json.dumps({"id": identity, "title": None, key: "Words.", "other": [1]}))
    assert read(path) == [Passage(document, "", "Words.")]


def test_a_long_document_becomes_passages_under_its_id_and_title(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("One sentence. " * 100)
    found = read(path, passage_chars=200)
    assert len(found) > 5
    assert {(p.document, p.title) for p in found} == {("long.txt", "long")}
    assert " ".join(p.text for p in found) == ("One sentence. " * 100).strip()


def test_an_empty_document_has_no_passage(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": ""}\n{"text": " \\n"}\n{"text": "x"}\n')
    assert [p.document for p in read(path)] == ["corpus.jsonl:3"]


@given(st.text(), st.text(st.characters(exclude_categories=[])))
def test_any_json_text_is_read_and_can_be_written_as_utf8(
    tmp_path_factory: pytest.TempPathFactory, title: str, text: str
) -> None:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text(json.dumps({"title": title, "text": text + "."}))
    (passage,) = read(path, passage_chars=10_000)
    passage.text.encode()
    assert passage.title == title


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "not an object"),
        ('{"title": "T"}', "no text"),
        ('{"text": null}', "no text"),
        ('{"text": 5}', "text is not text"),
        ('{"text": "a", "title": ["T"]}', "title is not text"),
        ('{"text": "a", "id": 1.5}', "id is neither"),
        ('{"text": "a", "id": true}', "id is neither"),
        (b'{"text": "\xff"}', "not UTF-8"),
    ],
)
def test_a_bad_row_is_one_line_that_names_file_and_line(
    tmp_path: Path, line: str | bytes, reason: str
) -> None:
    path = tmp_path / "corpus.jsonl"
    bad = line.encode() if isinstance(line, str) else line
    path.write_bytes(b'{"text": "good"}\n' + bad + b"\n")
    with pytest.raises(ConfigError, match=reason) as caught:
        read(path)
    assert f"{path}, line 2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_id_that_stands_twice_is_an_error_that_names_both_places(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": 7, "text": "one"}\n')
    (tmp_path / "b.jsonl").write_text('{"text": "two"}\n{"id": "7", "text": "three"}\n')
    with pytest.raises(ConfigError) as caught:
        read(tmp_path)
    assert f"{tmp_path / 'b.jsonl'}, line 2: id 7" in str(caught.value)
    assert f"{tmp_path / 'a.jsonl'}, line 1" in str(caught.value)


def test_a_text_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ConfigError, match=r"latin\.txt: not UTF-8"):
        read(tmp_path)


def test_a_corpus_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file or folder"):
        corpus_files(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["corpus.json", "corpus.jsonl.gz"])
def test_a_corpus_of_another_format_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    for corpus in (tmp_path, tmp_path / name):
        with pytest.raises(ConfigError, match=r"no \.jsonl, \.txt or \.md"):
            corpus_files(corpus)
