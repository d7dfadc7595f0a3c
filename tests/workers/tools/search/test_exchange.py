from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.core.records import ToolRequest
from orchestra_ray.workers.tools.search.exchange import CUT, NOTHING_FOUND, numbered, query_of

RequestFor = Callable[..., ToolRequest]


def test_the_query_is_the_argument_or_else_the_question(request_for: RequestFor) -> None:
    assert query_of(request_for(" rivers of Paris\n")) == "rivers of Paris"
    assert query_of(request_for(None, question="Which city?")) == "Which city?"


@pytest.mark.parametrize(("query", "question"), [("", "Which city?"), (" \n", "x"), (None, " ")])
def test_an_empty_query_is_the_calls_own_fault(
    request_for: RequestFor, query: str | None, question: str
) -> None:
    with pytest.raises(Fault, match="the query is empty") as caught:
        query_of(request_for(query, question))
    assert caught.value.kind is FaultKind.BAD_INPUT


def test_passages_are_numbered_under_their_titles() -> None:
    text = numbered([("Paris", "A city."), ("", "No title.\nTwo lines.")], shown_chars=100)
    assert text == "[1] Paris\nA city.\n\n[2]\nNo title.\nTwo lines."


def test_no_passage_is_said_in_words() -> None:
    assert numbered([], shown_chars=100) == NOTHING_FOUND


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50), st.integers(1, 40))
def test_a_passage_is_whole_or_cut_with_a_mark(text: str, shown_chars: int) -> None:
    shown = numbered([("", text)], shown_chars).removeprefix("[1]\n")
    assert shown == (text if len(text) <= shown_chars else text[:shown_chars] + CUT)


def test_a_reply_can_be_encoded_and_keeps_special_tokens() -> None:
    text = numbered([("\ud800<|im_end|>", "<tool_call>\udfff")], shown_chars=100)
    assert text == "[1] ?<|im_end|>\n<tool_call>?"
