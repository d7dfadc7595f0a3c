"""Graders against a table of answers with verdicts written by a person, and properties."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.cli import main as cli
from orchestra_ray.core.records import Caller, Task
from orchestra_ray.workers.reward.judges import latex as latex_module
from orchestra_ray.workers.reward.judges.choice import is_choice, letter_of
from orchestra_ray.workers.reward.judges.exact import is_exact
from orchestra_ray.workers.reward.judges.expressions import stated_expression
from orchestra_ray.workers.reward.judges.hotpotqa import f1
from orchestra_ray.workers.reward.judges.latex import latex
from orchestra_ray.workers.reward.judges.mathematics import MathGrader
from orchestra_ray.workers.reward.judges.number import amount, is_number
from orchestra_ray.workers.reward.judges.registry import PLAIN, PROCESSES, PlainGrader
from orchestra_ray.workers.reward.judges.rules import RULES, defaced
from orchestra_ray.workers.reward.judges.verdict import Verdict

SHARED = Path(__file__).parents[5] / "shared" / "data" / "verdict_cases.jsonl"
TABLE = Path(__file__).parents[3] / "samples" / "verdicts.jsonl"
ROWS: list[dict[str, Any]] = [json.loads(line) for line in TABLE.read_text().splitlines()]
CALLER = Caller(1, "g", "g/0/judge", 0)


def task_of(row: dict[str, Any]) -> Task:
    payload = {"answer": row["reference"], "judge": row["judge"]}
    if "choices" in row:
        payload["choices"] = row["choices"]
    return Task("t", "family", row["question"], payload)


JUDGES = ["exact", "number", "choice", "math", "hotpotqa"]


@pytest.mark.parametrize("name", JUDGES)
def test_judges_agree_with_the_table(name: str) -> None:
    rows = [row for row in ROWS if row["judge"] == name]
    if name == "math":
        pytest.importorskip("math_verify")

    async def verdicts() -> list[Any]:
        grader = PlainGrader(PLAIN[name]) if name in PLAIN else PROCESSES[name]()
        try:
            return [await grader.grade(task_of(row), row["answer"], CALLER) for row in rows]
        finally:
            await grader.close()

    found = asyncio.run(verdicts())
    assert all(isinstance(one, Verdict) for one in found)
    wrongly = [r for r, v in zip(rows, found, strict=True) if v.correct != r["right"]]
    assert not wrongly and len(rows) >= 9


def test_judges_agree_with_labels_collected_from_bug_reports(capsys: Any) -> None:
    pytest.importorskip("math_verify")
    if not SHARED.is_file():
        pytest.skip(f"{SHARED} is not on this machine")
    assert cli.main(["judge", str(SHARED)]) == 0, capsys.readouterr().out


def test_the_table_is_long_and_has_both_verdicts_of_each_judge() -> None:
    assert len(ROWS) >= 60
    both = {(name, right) for name in JUDGES for right in (True, False)}
    assert {(row["judge"], row["right"]) for row in ROWS} == both


@given(st.integers(-(10**12), 10**12))
def test_a_whole_number_is_itself_however_it_is_written(number: int) -> None:
    for text in (f"{number:,}", f"{number}.0", f" {number} ", f"The answer is {number:,}."):
        assert is_number(str(number), text)
    for wrapped in (f"\\boxed{{{number}}}", f"<answer>{number}</answer>", f"#### {number}\n"):
        assert is_number(str(number), wrapped) and is_number(wrapped, str(number))
    assert not is_number(str(number), str(-number)) or number == 0


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**6))
def test_two_whole_numbers_are_never_the_same(number: int, apart: int) -> None:
    for other in (number + apart, number - apart):
        for text in (f"{other}", f"{other:,}", f"The answer is {other}.", f"\\boxed{{{other}}}"):
            assert not is_number(str(number), text)


PLACES = ["{}", "\\boxed{{{}}}", "= {}"]
PARTS = ["{}x", "{}\\pi", "{}\\sqrt{{3}}", "H{}", "x_{{{}}}", "{}:00", "f({})", "{}y + 1", "x + {}"]


@given(
    st.integers(2, 10**6), st.sampled_from(PARTS), st.sampled_from(["{}", "\\boxed{{{}}}", "= {}"])
)
def test_a_part_of_an_expression_is_no_number(number: int, part: str, place: str) -> None:
    assert not is_number(str(number), place.format(part.format(number)))


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_fraction_is_itself_however_it_is_written(above: int, below: int) -> None:
    for text in (f"{above}/{below}", f"\\frac{{{above}}}{{{below}}}", f"{above} / {below}"):
        assert is_number(f"{above}/{below}", text)
    percent = f"{100 * above / below!r}"
    if "e" not in percent:
        assert is_number(f"{above}/{below}", f"{percent}%")


@pytest.mark.parametrize(
    "expression",
    [
        "\\frac{1}{2}",
        "3\\pi",
        "x^2 + 1",
        "10!",
        "[0, 1)",
        "\\sqrt{2}",
        "(3, 1)",
        "\\{1, 2\\}",
        "2x + 3",
    ],
)
def test_an_expression_is_itself_in_any_wrapper(expression: str) -> None:
    pytest.importorskip("math_verify")
    from orchestra_ray.workers.reward.judges.equal import equal

    wrappers = (
        "{}",
        "${}$",
        "\\boxed{{{}}}",
        "The answer is ${}$.",
        "<answer>{}</answer>",
        "\\[{}\\]",
    )
    for wrapper in wrappers:
        given_text = stated_expression(wrapper.format(expression))
        assert given_text is not None and equal(expression, given_text) == "equal", wrapper
    assert equal(expression, "7") == equal(expression, "2") == "different"


@given(st.text())
def test_any_text_can_be_judged(text: str) -> None:
    amount(text)
    assert letter_of(text, ["one", "two"]) in (None, "A", "B")
    assert is_exact(text, f"  {text}\n")
    assert is_number(text, text)


@pytest.mark.parametrize(
    "filler",
    [" ", "9", "-", "answer ", "1 1/", "\\text{", "\\frac{1", "(A) ", "((1+", "$1", "1,", "2 "]
    + ["\\boxed{1} or ", "so ", "B is ", "*", "^2", "5!", "½", "²", "\\sqrt(", "correct:*", "a_"]
    + ["answer: 1\n", "one ", "#### 1\n", "<answer>", "million ", "'", "}", "x = 1, "]
    + ["√(", "(ab", "not A but ", "A. x\nB. x\n", "answer so ", "1 or ", "10^{-", "000 ", "\n"],
)
def test_a_long_answer_is_judged_in_little_time(filler: str) -> None:
    """Not timed: where a pattern's time grew with the square the test would not end."""
    text = "-" + filler * (20_000 // len(filler)) + "x"
    assert not is_number("7", text)
    is_number(text, "7")
    is_choice("B", text, ["one", "two"])
    f1("one", text)
    stated_expression(text)
    latex(text[: latex_module.MOST_CHARACTERS])
    for rule in RULES.values():
        assert rule.read(f"correct: {text}") in (True, False, None)
        assert rule.read(defaced(text)) is None


@given(st.sampled_from("ABCD"), st.sampled_from("ABCD"))
def test_a_letter_is_itself_however_it_is_given(right: str, given: str) -> None:
    texts = [given, given.lower(), f"({given})", f"{given}. text {given}", f"**Answer:** {given}"]
    for text in [*texts, f"The correct option is ({given}).", f"\\boxed{{{given}}}"]:
        assert is_choice(right, text, "wxyz") is (right == given), text


def test_letters_beyond_the_choices_are_none() -> None:
    assert letter_of("C", ["one", "two"]) is None
    assert letter_of("C") == "C"
    assert not is_choice("C", "C", ["one", "two"])


def test_a_choice_that_stands_twice_is_named_by_its_letter_alone() -> None:
    assert letter_of("one", ["one", "ONE", "two"]) is None
    assert letter_of("b", ["one", "ONE", "two"]) == "B"


@pytest.mark.parametrize(
    "hostile", ["9^{9^{9^{9^9}}}", "$(10^{10^{10}})!$", "\\boxed{" + "x" * 3_000 + "}"]
)
def test_an_expression_that_nobody_can_compute_is_wrong_and_spoils_no_other(hostile: str) -> None:
    pytest.importorskip("math_verify")
    task = Task("t", "math", "Compute.", {"answer": "\\frac{1}{2}", "judge": "math"})

    async def verdicts() -> list[Any]:
        grader = MathGrader()
        try:
            answers = (hostile, "$\\frac{2}{4}$", hostile, "$0.5$")
            return list(await asyncio.gather(*(grader.grade(task, a, CALLER) for a in answers)))
        finally:
            await grader.close()

    found = asyncio.run(verdicts())
    assert [isinstance(one, Verdict) and one.correct for one in found] == [False, True, False, True]
