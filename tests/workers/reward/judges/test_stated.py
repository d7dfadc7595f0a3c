"""What answers of models state, in the forms that have been misread, and what none may cost."""

import time
from fractions import Fraction

import pytest

from orchestra_ray.workers.reward.judges.choice import is_choice, letter_of
from orchestra_ray.workers.reward.judges.expressions import stated_expression
from orchestra_ray.workers.reward.judges.latex import latex
from orchestra_ray.workers.reward.judges.number import amount, is_number

CHOICES = ["oxygen", "chlorine", "argon", "iodine"]
MOST_S = 5.0  # of a slow, busy machine; what grows with the square takes ten times as long


@pytest.mark.parametrize(
    ("answer", "stated"),
    [
        ("Final Answer: The final answer is $5$. I hope it is correct.", "5"),
        ("Answer: The answer is 5", "5"),
        ("**Answer**\n\nThe answer is 5.", "5"),
        ("### Final Answer\n\nThe final answer is: **5**", "5"),
        ("**Answer:** Since 2 + 2 = 4, the answer is 4.", "4"),
        ("**Answer:** 3 apples and 4 pears are there, so the answer is 7.", "7"),
        ("The answer is 5 + 3, so the final answer is 8", "8"),
        ("The answer is not 5, the answer is 6", "6"),
        ("The answer is 5. This answer is reasonable since 3 < 10.", "5"),
        ("The answer is 42. This answer is correct.", "42"),
        ("Answer: Since he has 2 boxes of 3, he has 6 apples.", "6"),
        ("The answer is 5 or the answer is 6", None),
        ("Answer: 5 Answer: 6", None),
        ("Answer: 12\nAnswer: 13", None),
        ("Kylar pays **$64** for 16 glasses.", "64"),
        ("He sold **3** of **8** pens.", "8"),
        ("It is not **5**, it is 6.", "6"),
        ("Is it **5**? No, it is 6.", "6"),
        ("The answer is 3/2 or 1.5", "1.5"),
        ("\\boxed{\\frac{3}{2} \\text{ or } 1.5}", "1.5"),
        ("The answer is 3/2 or 2.5", None),
        ("The answer is negative 3.", "-3"),
        ("It is minus 3 degrees.", "-3"),
        ("10 minus 3", None),
        ("x minus 3", None),
        ("The answer is $\\boldsymbol{17}$.", "17"),
        ("It costs US$694.", "694"),
        ("10^{-3}", "0.001"),
        ("\\boxed{2 \\cdot 10^{-3}}", "0.002"),
        ("In five minutes they meow 5*11=55 times.", "55"),
        ("\\boxed{6 \\text{ times}}", "6"),
        ("6 times x", None),
        ("x > 5", None),
        ("±5", None),
        ("5+", None),
        ("no more than 5", None),
    ],
)
def test_a_number_is_read_from_what_states_it(answer: str, stated: str | None) -> None:
    read = amount(answer)
    assert (None if read is None else read.value) == (None if stated is None else Fraction(stated))


@pytest.mark.parametrize(
    "answer", ["The answer is 12,13", "12,13", "3,14", "1,5 kg", "about 1,5", "1,000,1", "1,2,3"]
)
def test_digits_with_commas_that_group_no_thousands_are_no_number(answer: str) -> None:
    assert amount(answer) is None
    assert not any(is_number(str(number), answer) for number in (1, 2, 3, 5, 12, 13, 14, 213))
    assert is_number(answer, answer)


@pytest.mark.parametrize(
    ("answer", "expression"),
    [
        ("Final Answer: The final answer is $[2,5)$. I hope it is correct.", "[2,5)"),
        ("Final Answer: The final answer is $(3, \\frac{\\pi}{2})$.", "$(3, \\frac{\\pi}{2})$"),
        ("**Answer**\n\nThe answer is $x = 5$.", "x = 5"),
        ("The answer is $4$ (that is, 2 twice).", "4"),
    ],
)
def test_an_expression_is_read_from_the_inner_statement(answer: str, expression: str) -> None:
    assert (stated_expression(answer) or "").strip("$") == expression.strip("$")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("√(3+(4))", "\\sqrt{3+(4)}"),
        ("sqrt(sqrt(16))", "\\sqrt{\\sqrt{16}}"),
        ("4\\sqrt(2", "4\\sqrt(2"),
        ("12\\pi \\text{ cm}^2", "12\\pi"),
        ("\\boldsymbol{17}", "17"),
        ("x²", "x^{2}"),
    ],
)
def test_plain_notation_is_made_latex(text: str, read: str) -> None:
    assert (latex(text) or "").replace(" ", "") == read


WALK = "A. oxygen\nB. chlorine\nC. argon\nD. iodine"


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("A) oxygen is wrong\nB) chlorine is right\nSo the answer is B", "B"),
        ("A) oxygen is wrong\nB) chlorine is right\nSo it is B", "B"),
        ("(A) no\n(B) yes\nI choose B.", "B"),
        ("A) oxygen is wrong\nB) chlorine is right", None),
        (WALK, None),
        (f"{WALK}\n\nC. argon", "C"),
        (f"{WALK}\n\n**C**", "C"),
        (f"C. argon\n\nExplanation:\n{WALK}", "C"),
        ("C\n\n- A. oxygen is reactive\n- B. chlorine and\n- D. iodine are halogens", "C"),
        ("Only one of them is inert.\n\nC. argon", "C"),
        ("B, A", None),
        ("A, B and C", None),
        ("Final Answer: The final answer is (C). I hope it is correct.", "C"),
        ("**Answer**\n\nThe correct answer is C.", "C"),
        ("Answer: I think the answer is C.", "C"),
        ("Since argon is inert, the answer is C. This answer is consistent with the rule.", "C"),
        ("The answer is 'argon' (C).", "C"),
        ("The answer is not A, not B, but C.", "C"),
        ("$\\boldsymbol{C}$", "C"),
    ],
)
def test_a_letter_is_read_from_what_states_it(answer: str, letter: str | None) -> None:
    assert letter_of(answer, CHOICES) == letter


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        *(("\\boxed{", "}"), ("{", "}"), ("(", ")"), ("[", "]"), ("\\text{", "}"), ("√(", ")")),
        *(("\\frac{1}{", "}"), ("\\sqrt{", "}"), ("\\left(", "\\right)"), ("2^{", "}"), ("$", "$")),
        *(("<answer>", "</answer>"), ("\\(", "\\)"), ("-", ""), ("((\\frac", ""), ("(ab", "")),
        *(("not A but ", ""), ("A. x\nB. x\n", ""), ("1,1", ""), ("000 ", "/"), ("\n", "")),
        *(("answer so ", ""), ("since 1, ", ""), ("1 or ", ""), ("**1** ", ""), ("10^{-", "}")),
        *(("1", ",1"), ("E1", ""), ("is the answer 1, ", ""), ("US$", ""), ("minus 1 ", "")),
    ],
)
def test_what_is_nested_deeply_or_repeated_is_judged_in_little_time(
    opening: str, closing: str
) -> None:
    depth = 19_900 // len(opening + closing)
    begun = time.process_time()
    for text in (opening * depth + "5" + closing * depth, opening * (19_900 // len(opening))):
        for answer in (text, f"The answer is {text}", f"\\boxed{{{text}}}"):
            assert not is_number("7", answer)
            is_choice("B", answer, ["one", "two"])
            stated_expression(answer)
            latex(answer[:2_000])
    assert time.process_time() - begun < MOST_S


@pytest.mark.parametrize(("depth", "is_read"), [(1, True), (5, True), (1_200, False)])
def test_a_box_in_boxes_is_opened_up_to_some_depth(depth: int, is_read: bool) -> None:
    assert is_number("5", "\\boxed{" * depth + "5" + "}" * depth) is is_read
