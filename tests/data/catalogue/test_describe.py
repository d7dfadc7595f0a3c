import asyncio
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.data.catalogue import Catalogue, load_catalogue
from orchestra_ray.data.catalogue.describe import (
    MAX_CHARACTERS,
    SHOWN_CHARACTERS,
    TASKS,
    TRIES,
    BadDescription,
    Messages,
    Trial,
    describe,
    description_in,
    prompt,
    with_description,
    write_described,
)

TRIALS = [Trial(f"task {n}", f"did {n}", n % 2 == 0) for n in range(TASKS)]
GOOD = "<description>Good at sums.</description>"
FILE = """# A comment that stays.
models:
  - name: one
    description: {ONE}
    backend: simulated # and this one
  - {name: two, description: old words, backend: simulated}
"""


class Answers:
    """Answers in order; what it was asked is kept."""

    def __init__(self, *answers: str):
        self.answers, self.asked = list(answers), []

    async def __call__(self, messages: Messages) -> str:
        self.asked.append(messages)
        return self.answers.pop(0)


def described(catalogue: Catalogue, ask: Answers) -> str:
    return asyncio.run(describe(catalogue.models["nova"], TRIALS, ask, deadline_s=10))


def test_the_prompt_holds_every_trial_with_its_outcome() -> None:
    (message,) = prompt(TRIALS)
    assert message["role"] == "user"
    assert f"Below are {TASKS} tasks" in message["content"]
    for number, trial in enumerate(TRIALS, 1):
        outcome = "right" if trial.success else "wrong"
        record = message["content"].split(f'<record number="{number}" outcome="{outcome}">')[1]
        assert record.startswith(f"\nTask:\n{trial.task}\n")
        assert trial.trajectory in record.split("</record>")[0]


def test_a_long_trajectory_loses_its_middle() -> None:
    text = "a" * SHOWN_CHARACTERS + "b" * 1_000 + "c" * SHOWN_CHARACTERS
    content = prompt([Trial("t", text, True)])[0]["content"]
    assert "a" * (SHOWN_CHARACTERS // 2) in content and "c" * (SHOWN_CHARACTERS // 2) in content
    assert "bbb" not in content and f"[... {len(text) - SHOWN_CHARACTERS} characters" in content


def test_without_trials_nothing_is_asked() -> None:
    with pytest.raises(ValueError, match="no trials"):
        prompt([])


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("Good at sums.", "nothing between"),
        ("<description> \n </description>", "nothing between"),
        ("<description>Good at sums.", "nothing between"),
        (f"<description>{'x' * (MAX_CHARACTERS + 1)}</description>", "may have"),
        ("<description>NOVA is good.</description>", "names the model: nova"),
        ("<think><description>Draft.</description>", None),
        ("<description>Draft.</description> No: " + GOOD, None),
        ("<think><description>Draft.</description></think>\n" + GOOD, None),
    ],
)
def test_the_last_description_is_taken_if_it_can_stand(answer: str, problem: str | None) -> None:
    if problem is not None:
        with pytest.raises(BadDescription, match=problem):
            description_in(answer, ["nova"])
    else:
        assert description_in(answer, ["nova"]) in ("Good at sums.", "Draft.")


@given(st.text())
def test_a_description_is_one_printable_line(text: str) -> None:
    try:
        said = description_in(f"<description>{text}</description>", [])
    except BadDescription:
        return
    assert said.isprintable() and said == said.strip() and len(said) <= MAX_CHARACTERS


def test_a_bad_answer_is_asked_for_again_with_the_reason(catalogue: Catalogue) -> None:
    ask = Answers("hm", "<description>nova</description>", GOOD)
    assert described(catalogue, ask) == "Good at sums."
    assert [len(messages) for messages in ask.asked] == [1, 3, 5]
    assert "nothing between" in ask.asked[1][-1]["content"]
    assert "names the model" in ask.asked[2][-1]["content"]


def test_it_gives_up(catalogue: Catalogue) -> None:
    ask = Answers(*["hm"] * 9)
    with pytest.raises(BadDescription, match="nothing between"):
        described(catalogue, ask)
    assert len(ask.asked) == TRIES


def test_it_waits_no_longer_than_its_deadline(catalogue: Catalogue) -> None:
    async def never(messages: Messages) -> str:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(TimeoutError):
        asyncio.run(describe(catalogue.models["nova"], TRIALS, never, deadline_s=0.01))


@pytest.mark.parametrize(
    "old",
    [
        "plain words",
        '"quoted: words"',
        "'single'",
        "words over\n      two lines",
        "|\n      a block\n      of lines",
        ">-\n      a folded\n      block\n",
    ],
)
@given(new=st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), min_size=1))
def test_one_description_changes_and_nothing_else(old: str, new: str) -> None:
    text = FILE.replace("{ONE}", old)
    for name, place in (("one", 0), ("two", 1)):
        written = with_description(text, name, new)
        tree, before = yaml.safe_load(written), yaml.safe_load(text)
        assert tree["models"][place]["description"] == new
        tree["models"][place]["description"] = before["models"][place]["description"]
        assert tree == before
        assert "# A comment that stays." in written and "simulated # and this one" in written


def test_a_copy_of_a_shipped_catalogue_has_the_new_words(tmp_path: Path) -> None:
    source, target = Path("configs/catalogues/paper.yaml"), tmp_path / "paper.yaml"
    words = {"qwen3-32b": 'Says: "strong" in logic, weak in facts.', "gpt-5": "Best."}
    before, text = load_catalogue(source), source.read_text()
    write_described(source, target, words)
    after = load_catalogue(target)
    for name, entry in before.entries.items():
        expected = words.get(name, entry.description)
        assert after.entries[name].description == expected
        assert after.entries[name].settings == entry.settings
    assert source.read_text() == text
    assert target.read_text().count("#") == text.count("#")


def test_a_model_that_is_not_in_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model three with a description; check the name"):
        with_description(FILE, "three", "words")


def test_the_catalogue_itself_is_not_overwritten(write) -> None:
    path = write(FILE)
    with pytest.raises(ConfigError, match="give the copy another name"):
        write_described(path, path, {"one": "words"})


def test_a_description_that_others_share_by_an_anchor_is_left_alone() -> None:
    shared = FILE.replace("{ONE}", "&same words").replace("old words", "*same")
    with pytest.raises(ConfigError, match="write it by hand"):
        with_description(shared, "two", "new words")
