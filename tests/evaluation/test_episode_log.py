import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.evaluation.episode_log import EpisodeLog, EvalEpisode

ONE = EvalEpisode(3, "sum/3", "sum", True, 7, 1.5, 2, {"nova": 1}, {"nova": 1})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    log = EpisodeLog(tmp_path / "evaluation.jsonl")
    log.add("policy", ONE)
    log.add("random", replace(ONE, number=4))
    log.close()
    return tmp_path / "evaluation.jsonl"


def test_what_was_written_is_there_again(path: Path) -> None:
    log = EpisodeLog(path)
    assert log.done("policy") == {3: ONE} and set(log.done("random")) == {4}
    assert not log.done("oracle")


def test_half_a_line_is_cut_and_the_next_one_is_whole(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"policy": "ran')
    log = EpisodeLog(path)
    log.add("random", replace(ONE, number=5))
    log.close()
    assert path.read_bytes().startswith(whole)
    assert set(EpisodeLog(path).done("random")) == {4, 5}


@pytest.mark.parametrize("line", ["[]", '{"policy": "random"}', "no json"])
def test_a_line_of_another_kind_is_named(path: Path, line: str) -> None:
    path.write_text(f"{line}\n")
    with pytest.raises(ConfigError, match=r"evaluation\.jsonl:1: is no episode"):
        EpisodeLog(path)


def test_a_line_without_outcomes_tells_none(path: Path) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(drop(line)) + "\n" for line in lines))
    assert EpisodeLog(path).done("policy") == {3: ONE} and ONE.outcomes == {}


def drop(line: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name != "outcomes"}


def test_outcomes_are_written_and_read(path: Path) -> None:
    log = EpisodeLog(path)
    failed = replace(ONE, number=5, outcomes={"ok": 1, "connection": 2})
    log.add("random", failed)
    log.close()
    assert EpisodeLog(path).done("random")[5] == failed
