"""The commands of README and docs parse, and those that need no cluster succeed."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestra_ray.cli.main import main, parse

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("*/README.md"))]
PAGES += sorted((REPOSITORY / "docs").glob("*.md"))
TRIED = ("train", "eval", "plan", "tools list", "preferences make")
MINE = "name: mine\n"


def commands(page: Path) -> Iterator[list[str]]:
    """Yields the arguments of each `orchestra` in a fenced block; for a job, of its command."""
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", page.read_text(), re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["orchestra"]:
                yield words[1:]
            elif any(word.startswith("jobs/") for word in words):
                script = next(n for n, word in enumerate(words) if word.startswith("jobs/"))
                name = {"train": "train", "evaluate": "eval"}[Path(words[script]).stem]
                yield [name, *words[script + 1 :]]


ALL = [pytest.param(words, id=" ".join(words)) for page in PAGES for words in commands(page)]


def test_commands_are_found() -> None:
    assert len(ALL) > 12


@pytest.mark.parametrize("words", ALL)
def test_a_command_parses(words: list[str]) -> None:
    options = parse(words)
    assert options.command


@pytest.fixture
def workplace(tmp_path: Path, policy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the examples: configurations, a run, a file of preferences."""
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    mine = (REPOSITORY / "configs/quickstart.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(re.sub(r"^name: .*\n", MINE, mine, flags=re.M))
    monkeypatch.chdir(tmp_path)
    assert main(["preferences", "make", "--config", "mine.yaml", "--out", "given.jsonl"]) == 0
    problems = ({"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in range(700))
    (tmp_path / "gsm8k.jsonl").write_text("\n".join(map(json.dumps, problems)))
    checkpoint = tmp_path / "runs/mine/checkpoints/step_60"
    checkpoint.mkdir(parents=True)
    (checkpoint / "policy").symlink_to(policy_folder)
    return tmp_path


@pytest.mark.parametrize("words", [one for one in ALL if one.id and one.id.startswith(TRIED)])
def test_a_command_that_needs_no_cluster_works(workplace: Path, words: list[str]) -> None:
    if words[0] in ("train", "eval"):
        words = [*words, "--dry-run"]
    if "catalogue.preferences_path=preferences.jsonl" in words:
        (workplace / "given.jsonl").rename(workplace / "preferences.jsonl")
    assert main(words) == 0
