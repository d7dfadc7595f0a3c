r"""What is read out of a model's answer: the part that it was told to mark, by kind of mark.

A model is told how to mark the part (`INSTRUCTIONS`), and `found` reads the last one that is marked
so. `parse` takes the answer as it stands where no part is marked. Pure functions of text.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum


class Parser(StrEnum):
    TEXT = "text"  # the answer as it stands
    LAST_LINE = "last_line"  # its last line that is not blank
    BOXED = "boxed"  # what stands in \boxed{}
    ANSWER_TAG = "answer_tag"  # between <answer> and </answer>
    QUERY_TAG = "query_tag"  # between <query> and </query>
    CODE = "code"  # a block of Python


INSTRUCTIONS: Mapping[Parser, str] = {
    Parser.TEXT: "",
    Parser.LAST_LINE: "Give the final answer alone on the last line.",
    Parser.BOXED: "Put the final answer in \\boxed{}.",
    Parser.ANSWER_TAG: "Put the final answer between <answer> and </answer>.",
    Parser.QUERY_TAG: "Put one short search query between <query> and </query>.",
    Parser.CODE: "Write one self-contained program in a block that begins with ```python.",
}


MOST_NESTED = 8  # boxes within boxes that are opened: each takes a look at all that is in it

_BOX = re.compile(r"\\(?:boxed|fbox)(?:[ \t]*\{|[ \t]+(?P<bare>[^\s{}$\\]+))")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_JOINED = re.compile(
    r"(?:[\s,;/&$]|\\[()\[\]]|\\text\{\s*(?:or|and)\s*\}|\b(?:or|and)\b)*", re.IGNORECASE
)


def found(parser: Parser, text: str) -> str | None:
    """The marked part of an answer; None where there is none, or nothing in it."""
    return _FINDERS[parser](text) or None


def parse(parser: Parser, text: str) -> str:
    """The marked part of an answer, or all of it."""
    part = found(parser, text)
    return text if part is None else part


def _text(text: str) -> str | None:
    return text.strip()


def _last_line(text: str) -> str | None:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)


def boxes(text: str) -> list[str]:
    r"""What the last boxes of a text hold: of several that only `or`, `and` or marks join, all.

    Read are \\boxed{...}, \\fbox{...} and \\boxed 42. Empty if the last box does not end.
    """
    found_here: list[str] = []
    end = 0
    for box in _BOX.finditer(text):
        if box.start() < end:
            continue  # in the one before, of which it is a part
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
    """What one box holds, and where it ends."""
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
