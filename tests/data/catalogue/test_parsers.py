import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.data.catalogue.parsers import (
    INSTRUCTIONS,
    MOST_NESTED,
    Parser,
    find_marked,
    parse,
)

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="<>{}`\\"), min_size=1).map(
    lambda text: " ".join(text.split())
)


@pytest.mark.parametrize(
    ("parser", "text", "part"),
    [
        (Parser.TEXT, " 42 ", "42"),
        (Parser.TEXT, " \n", None),
        (Parser.LAST_LINE, "so\n\n 42 \n\n", "42"),
        (Parser.BOXED, r"first \boxed{1}, then \boxed{\frac{1}{2}} it is", r"\frac{1}{2}"),
        (Parser.BOXED, r"\boxed{\frac{1}{2}", None),
        (Parser.BOXED, r"\boxed{}", None),
        (Parser.BOXED, r"\boxed{\boxed{x = \boxed{7}}}", "7"),
        (Parser.BOXED, "42", None),
        (Parser.ANSWER_TAG, "<answer>no</answer> wait <answer>\nyes\n</answer>", "yes"),
        (Parser.ANSWER_TAG, "<answer>yes", None),
        (Parser.ANSWER_TAG, "</answer>yes<answer>", None),
        (Parser.QUERY_TAG, "I look for <query>moons of Mars</query>.", "moons of Mars"),
        (Parser.QUERY_TAG, "<answer>moons of Mars</answer>", None),
        (Parser.CODE, "one\n```python\nx = 1\n```\ntwo\n```python\ny = 2\n```\nend", "y = 2"),
        (Parser.CODE, "```python\nif x:\n    y()\n", "if x:\n    y()"),
        (Parser.CODE, "```Py\nprint('```')\n```", "print('```')"),
        (Parser.CODE, "```\nx = 1\n```", None),
        (Parser.CODE, "```python\n\n```", None),
    ],
)
def test_the_last_marked_part_is_read(parser: Parser, text: str, part: str | None) -> None:
    assert find_marked(parser, text) == part
    assert parse(parser, text) == (text if part is None else part)


def test_boxes_in_boxes_are_opened_up_to_some_depth() -> None:
    deep = MOST_NESTED + 1_200
    part = find_marked(Parser.BOXED, "\\boxed{" * deep + "7" + "}" * deep)
    assert part == "\\boxed{" * 1_200 + "7" + "}" * 1_200


@given(before=WORDS, part=WORDS)
def test_what_follows_the_instruction_is_read_back(before: str, part: str) -> None:
    if not part:
        return
    marked = {
        Parser.TEXT: part,
        Parser.LAST_LINE: f"{before}\n{part}",
        Parser.BOXED: f"{before} \\boxed{{{part}}}",
        Parser.ANSWER_TAG: f"{before} <answer>{part}</answer>",
        Parser.QUERY_TAG: f"{before} <query>{part}</query>",
        Parser.CODE: f"{before}\n```python\n{part}\n```",
    }
    assert marked.keys() == INSTRUCTIONS.keys() == set(Parser)
    for parser, text in marked.items():
        assert find_marked(parser, text) == part


@given(parser=st.sampled_from(Parser), text=st.text())
def test_any_text_is_parsed(parser: Parser, text: str) -> None:
    assert find_marked(parser, text) in (None, parse(parser, text))
