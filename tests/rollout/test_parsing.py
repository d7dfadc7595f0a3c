import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.rollout.chat import Chat
from orchestra_ray.rollout.parsing import parse_hermes

CALL = '<tool_call>\n{"name": "ask", "arguments": {"model": "nova"}}\n</tool_call>'


def parsed(chat: Chat, text: str):
    return parse_hermes(chat, [*chat.encode_response(text), chat.end_id])


def test_a_call_after_a_thought(chat: Chat) -> None:
    turn = parsed(chat, f"<think>\nsums: nova\n</think>\n\n{CALL}")
    assert [(c.name, dict(c.arguments), c.fault) for c in turn.calls] == [
        ("ask", {"model": "nova"}, None)
    ]
    assert turn.answer is None and turn.format_ok and turn.said == ""


def test_words_before_a_call_are_kept_without_the_thought(chat: Chat) -> None:
    turn = parsed(chat, f"<think>\nsums\n</think>\n\nI ask nova.\n{CALL}\nand then")
    assert turn.said == "I ask nova." and len(turn.calls) == 1
    assert parsed(chat, "<think>\n</think>\n\n42").said == ""


def test_several_calls_keep_their_order(chat: Chat) -> None:
    other = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "1+1"}}\n</tool_call>'
    turn = parsed(chat, CALL + "\n" + other)
    assert [c.name for c in turn.calls] == ["ask", "calculator"]


def test_text_without_a_call_is_the_answer(chat: Chat) -> None:
    turn = parsed(chat, "<think>\n\n</think>\n\n42")
    assert (turn.calls, turn.answer, turn.format_ok) == ((), "42", True)


@pytest.mark.parametrize(
    "text", ["", "<think>\nnothing but a thought", f"<think>{CALL}", "<think>\n</think>\n"]
)
def test_neither_call_nor_answer_breaks_the_format(chat: Chat, text: str) -> None:
    turn = parsed(chat, text)
    assert (turn.calls, turn.answer, turn.format_ok) == ((), None, False)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('{"name": "ask"', "not valid JSON"),
        ('["ask"]', "exactly a name"),
        ('{"name": "ask"}', "exactly a name"),
        ('{"name": "ask", "arguments": {}, "id": 1}', "exactly a name"),
        ('{"name": 3, "arguments": {}}', "must be a string"),
        ('{"name": "ask", "arguments": "nova"}', "arguments an object"),
        ("[" * 5000, "not valid JSON"),
    ],
)
def test_a_bad_call_says_what_is_wrong(chat: Chat, body: str, fault: str) -> None:
    turn = parsed(chat, f"<tool_call>\n{body}\n</tool_call>")
    assert fault in (turn.calls[0].fault or "")
    assert not turn.format_ok and turn.answer is None


def test_an_unclosed_call_is_a_fault(chat: Chat) -> None:
    assert parsed(chat, "<tool_call>\n{}").calls[0].fault == "the tool call is not closed"


def test_a_call_spelled_as_text_is_text(chat: Chat) -> None:
    turn = parse_hermes(chat, [*chat.encode_text(CALL), chat.end_id])
    assert turn.calls == () and turn.answer == CALL


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=8), st.text(max_size=12), max_size=3))
def test_any_arguments_come_through(chat: Chat, arguments: dict[str, str]) -> None:
    opening, closing = chat.encode_response("<tool_call>"), chat.encode_response("</tool_call>")
    body = chat.encode_text(json.dumps({"name": "f", "arguments": arguments}))
    (call,) = parse_hermes(chat, [*opening, *body, *closing]).calls
    assert call.arguments == arguments
