"""Nothing of an answer's text is evaluated when expressions are compared."""

from pathlib import Path
from types import CodeType
from typing import Any

import pytest

pytest.importorskip("math_verify")

from sympy.parsing import sympy_parser

from orchestra_ray.workers.reward.judges.equal import equal

WORDS = {"__import__", "system", "touch", "exec", "open", "os"}
PLACES = [
    *("{}", "$x = {}$", "\\boxed{{{}}}", "1 + {}", "1*({})", "answer: 1+1 {}", "2^{{{}}}"),
    *("\\text{{{}}}", "\\{{\\text{{{}}}, 1\\}}", "(1, \\text{{{}}})", "x \\in \\{{{}\\}}"),
    *("\\operatorname{{{}}}(x)", "\\operatorname{{f}}(\\text{{{}}})", "\\variable{{{}}}"),
    *("\\max(\\text{{{}}}, 2)", "\\gcd(\\text{{{}}}, 2)", "x_{{{}}}", "\\text{{{}}} < x < 3"),
    *("\\begin{{pmatrix}}\\text{{{}}} & 1\\end{{pmatrix}}", "\\int \\text{{{}}} dx"),
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reference", ["42", "\\{1, 2\\}"])
def test_an_answer_reaches_no_evaluation(
    place: str, reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[Any] = []
    evaluate = sympy_parser.eval_expr

    def spy(code: Any, *spaces: Any) -> Any:
        evaluated.append(code)
        return evaluate(code, *spaces)

    monkeypatch.setattr(sympy_parser, "eval_expr", spy)
    file = tmp_path / "F"
    for code in (f"__import__('os').system('touch {file}')", f"open('{file}','w')", "exec('1')"):
        assert equal(reference, place.format(code)) == "different"
    assert equal(reference, reference) == "equal" and not file.exists()
    for code in evaluated:
        names = code.co_names if isinstance(code, CodeType) else (str(code),)
        assert not [name for name in names if any(word in name for word in WORDS)]


def test_what_is_plainly_digits_is_evaluated_and_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So the test above would see an answer that came through."""
    evaluated: list[str] = []
    evaluate = sympy_parser.eval_expr
    monkeypatch.setattr(
        sympy_parser,
        "eval_expr",
        lambda code, *more: (evaluated.append(""), evaluate(code, *more))[1],
    )
    assert equal("42", "(40 + 2) * 1") == "equal" and evaluated
