"""Whether two mathematical expressions are equal, by math-verify; runs in a process of its own.

math-verify bounds its work with alarms, which only the main thread of a process can have, and no
alarm ends a computation inside an integer of a billion digits. So `mathematics` starts this in a
process with a limit on memory, and kills that when its time is over.

That process has no walls, and needs none as long as no text of an answer is evaluated. Of plain
text math-verify 0.9 hands to sympy's parser, which evaluates, only what consists of digits, spaces,
operators and brackets; LaTeX goes through a grammar and sympy's constructors. A test holds this.
"""

from typing import Any

from math_verify import parse, verify

PARSE_S, VERIFY_S = 2, 3


def equal(reference: str, answer: str) -> str:
    """`equal`, or `different`."""
    gold = _parsed(f"\\boxed{{{reference}}}")
    for text in (answer, f"${answer}$"):
        if verify(gold, _parsed(text), timeout_seconds=VERIFY_S):
            return "equal"
    return "different"


def _parsed(text: str) -> list[Any]:
    return parse(text, parsing_timeout=PARSE_S)
