"""Cassettes that cannot be used, or not for long."""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import pytest

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.workers.tools.base import Reply
from orchestra_ray.workers.tools.replay.cassette import Cassette, CassetteError, Mode, key_of

from ..tapes import Oracle, ask, damage_middle, in_cassette, seen


async def _nothing() -> Reply:
    raise AssertionError("called out")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:6000])


def other_database(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE calls (content)")


def other_format(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


DAMAGE: Mapping[str, tuple[Callable[[Path], object], str]] = {
    "text": (lambda path: path.write_text("not a database, " * 500), "damaged"),
    "middle": (damage_middle, "damaged"),
    "truncated": (truncate, "damaged"),
    "empty": (lambda path: path.write_bytes(b""), "not a cassette"),
    "another database": (other_database, "not a cassette"),
    "another format": (other_format, "format 99"),
}


@pytest.mark.parametrize("mode", [Mode.RECORD, Mode.REPLAY])
@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_file_that_cannot_be_used_is_one_line(tmp_path: Path, damage: str, mode: Mode) -> None:
    path = tmp_path / "c"
    seen(path, Mode.RECORD, Oracle(Reply("x" * 3000)), [ask(seed=s) for s in range(20)])
    act, says = DAMAGE[damage]
    act(path)
    with pytest.raises(ConfigError) as error:
        Cassette(path, mode)
    line = str(error.value)
    assert line.startswith(f"cassette {path}: ") and says in line and "\n" not in line


@pytest.mark.parametrize("mode", [Mode.REPLAY, Mode.REPLAY_OR_FAIL])
def test_a_replay_without_a_file_is_one_line(tmp_path: Path, mode: Mode) -> None:
    with pytest.raises(ConfigError, match="no such file; record it first"):
        Cassette(tmp_path / "c", mode)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_hold_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be opened"):
        Cassette(tmp_path / "file" / "c", Mode.RECORD)


def test_a_cassette_that_breaks_under_a_replay_is_an_error_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "c"
    more_than_its_cache = Oracle(Reply("x" * 60_000))
    seen(path, Mode.RECORD, more_than_its_cache, [ask(seed=s) for s in range(200)])

    async def work(cassette: Cassette) -> None:
        damage_middle(path)
        with pytest.raises(CassetteError, match="cannot be read"):
            for s in range(200):
                await cassette.play(key_of(ask(seed=s), "1"), _nothing)

    in_cassette(path, Mode.REPLAY, work)
