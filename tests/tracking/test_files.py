"""Lines and files are whole or absent, and a failed write returns a `Failure`."""

import contextlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra_ray.core.faults import FailureKind
from orchestra_ray.tracking.files import JsonlFile, write_text


@contextlib.contextmanager
def files_limited_to(size_bytes: int) -> Iterator[None]:
    """Sets the kernel's limit on file sizes, which writes a part and refuses the rest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_is_on_the_disk_when_write_returns(tmp_path: Path) -> None:
    file = JsonlFile(tmp_path / "a.jsonl")
    assert file.write({"x": 1}) is None
    assert (tmp_path / "a.jsonl").read_text() == '{"x": 1}\n'


def test_an_existing_file_is_continued(tmp_path: Path) -> None:
    for x in range(2):
        file = JsonlFile(tmp_path / "a.jsonl")
        file.write({"x": x})
        file.close()
    assert (tmp_path / "a.jsonl").read_text() == '{"x": 0}\n{"x": 1}\n'


def test_a_full_disk_is_a_failure_that_names_the_file() -> None:
    file = JsonlFile(Path("/dev/full"))
    failure = file.write({"x": 1})
    assert failure is not None
    assert failure.kind is FailureKind.INFRASTRUCTURE
    assert (failure.where, failure.message) == ("/dev/full", "No space left on device")
    assert file.lost_lines == 1


def test_a_line_that_fits_in_part_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    file = JsonlFile(path)
    file.write({"x": 1})
    with files_limited_to(path.stat().st_size + 5):
        failure = file.write({"x": "y" * 100})
        assert path.read_text() == '{"x": 1}\n'
    assert failure is not None and failure.message == "File too large"
    assert file.write({"x": 3}) is None
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"x": 1}, {"x": 3}]


def test_numbers_that_json_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        JsonlFile(tmp_path / "a.jsonl").write({"x": float("nan")})


def test_a_text_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    assert write_text(path, "old") is None
    with files_limited_to(5):
        failure = write_text(path, "new and longer")
    assert failure is not None and failure.where == str(path)
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["summary.json"]


def test_a_text_file_in_a_folder_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    failure = write_text(tmp_path / "nowhere" / "a", "text")
    assert failure is not None and failure.message == "No such file or directory"
