r"""Extracts the marked part of a model's answer, by kind of mark.

`INSTRUCTIONS` tell a model how to mark the part, `find_marked` returns the last marked part, and
`parse` falls back to the whole answer. Pure functions of text.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum


class Parser(StrEnum):
    TEXT = "text"  # the whole answer
    LAST_LINE = "last_line"  # the last line that is not blank
    BOXED = "boxed"  # the content of \boxed{}
    ANSWER_TAG = "answer_tag"  # between <answer> and </answer>
    QUERY_TAG = "query_tag"  # between <query> and </query>
    CODE = "code"  # a fenced block of Python


INSTRUCTIONS: Mapping[Parser, str] = {
    Parser.TEXT: "",
    Parser.LAST_LINE: "Give the final answer alone on the last line.",
    Parser.BOXED: "Put the final answer in \\boxed{}.",
    Parser.ANSWER_TAG: "Put the final answer between <answer> and </answer>.",
    Parser.QUERY_TAG: "Put one short search query between <query> and </query>.",
    Parser.CODE: "Write one self-contained program in a block that begins with ```python.",
}


MOST_NESTED = 8  # nested boxes that are opened: each level scans its whole content

_BOX = re.compile(r"\\(?:boxed|fbox)(?:[ \t]*\{|[ \t]+(?P<bare>[^\s{}$\\]+))")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_JOINED = re.compile(
    r"(?:[\s,;/&$]|\\[()\[\]]|\\text\{\s*(?:or|and)\s*\}|\b(?:or|and)\b)*", re.IGNORECASE
)


def find_marked(parser: Parser, text: str) -> str | None:
    """Returns the marked part of an answer; None if it is missing or empty."""
    return _FINDERS[parser](text) or None


def parse(parser: Parser, text: str) -> str:
    """Returns the marked part of an answer, or the whole answer without one."""
    part = find_marked(parser, text)
    return text if part is None else part


def _text(text: str) -> str | None:
    return text.strip()


def _last_line(text: str) -> str | None:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)


def boxes(text: str) -> list[str]:
    r"""Returns the contents of the last box, and of the boxes joined to it by `or`, `and` or marks.

    Boxes are \\boxed{...}, \\fbox{...} and \\boxed 42. Empty if the last box is not closed.
    """
    found_here: list[str] = []
    end = 0
    for box in _BOX.finditer(text):
        if box.start() < end:
            continue  # nested in the previous box
        if found_here and not _JOINED.fullmatch(text[end : box.start()]):
            found_here = []
        inner, end = _box_at(text, box)
        if inner is None:
            return []
        found_here.append(inner)
    return found_here


def _boxed(text: str) -> str | None:
    inner: str | None = None
    for _ in range(MOST_NESTED):
        if not (within := boxes(text if inner is None else inner)):
            break
        inner = within[-1]
    return inner


def _box_at(text: str, box: re.Match[str]) -> tuple[str | None, int]:
    """Returns the content of one box (None if it is not closed), and its end."""
    if box["bare"]:
        return box["bare"], box.end()
    depth = 1
    for brace in _BRACE.finditer(text, box.end()):
        if brace[0] in "{}":
            depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[box.end() : brace.start()].strip(), brace.end()
    return None, len(text)


def _tag(name: str) -> Callable[[str], str | None]:
    def find(text: str) -> str | None:
        before, end, _ = text.rpartition(f"</{name}>")
        _, start, part = before.rpartition(f"<{name}>")
        return part.strip() if start and end else None

    return find


def _code(text: str) -> str | None:
    starts = list(
        re.finditer(r"^[ \t]*```(?:python|py)[ \t]*$", text, re.MULTILINE | re.IGNORECASE)
    )
    if not starts:
        return None
    program = re.split(r"^[ \t]*```", text[starts[-1].end() :], maxsplit=1, flags=re.MULTILINE)[0]
    return program.strip("\n") if program.strip() else None


_FINDERS: Mapping[Parser, Callable[[str], str | None]] = {
    Parser.TEXT: _text,
    Parser.LAST_LINE: _last_line,
    Parser.BOXED: _boxed,
    Parser.ANSWER_TAG: _tag("answer"),
    Parser.QUERY_TAG: _tag("query"),
    Parser.CODE: _code,
}
