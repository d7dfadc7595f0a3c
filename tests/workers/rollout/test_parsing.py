import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.parsing import call_json, parse_hermes, write_hermes

SPELLED = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_end|>", "<|im_start|>"]
TEXTS = st.lists(st.sampled_from([*SPELLED, "a", " ", "\n", '"', "{", "é"]), max_size=8).map(
    "".join
)
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


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>a</think>b</think>c", "b</think>c"),
        ("<think>a<think>b</think>c<think>d", "c<think>d"),
        ("a</think>b", "b"),
        (
            "The tag <think> opens a thought. Answer: 42",
            "The tag <think> opens a thought. Answer: 42",
        ),
        ("The tags <think> and </think>", "The tags <think> and </think>"),
        ("\n <think>a</think>b", "b"),
    ],
)
def test_a_thought_begins_the_response_and_ends_at_its_first_mark(
    chat: Chat, text: str, answer: str
) -> None:
    assert parsed(chat, text).answer == answer


def test_a_call_whose_program_holds_an_end_of_thought_token_is_run(chat: Chat) -> None:
    body = json.dumps({"name": "python", "arguments": {"code": "print('</think>')"}})
    for thought in ("<think>\nx\n</think>\n\n", "I run it.\n", ""):
        (call,) = parsed(chat, f"{thought}<tool_call>\n{body}\n</tool_call>").calls
        assert call.arguments == {"code": "print('</think>')"}


@settings(max_examples=100)
@given(said=TEXTS, code=TEXTS, thought=st.none() | TEXTS, count=st.integers(0, 2))
def test_what_is_written_is_read_again_whatever_it_spells(
    chat: Chat, said: str, code: str, thought: str | None, count: int
) -> None:
    calls = [call_json("python", {"code": code})] * count
    ids = write_hermes(chat, said, calls, thought)
    control = [i for i in ids if i in chat.control_ids.values()]
    assert len(control) == 1 + 2 * count + 2 * (thought is not None)
    turn = parse_hermes(chat, ids)
    assert [call.arguments for call in turn.calls] == [{"code": code}] * count
    if count:
        assert turn.said == said.strip()
    else:
        assert (turn.answer or "") == said.strip()


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=8), st.text(max_size=12), max_size=3))
def test_any_arguments_come_through(chat: Chat, arguments: dict[str, str]) -> None:
    opening, closing = chat.encode_response("<tool_call>"), chat.encode_response("</tool_call>")
    body = chat.encode_text(json.dumps({"name": "f", "arguments": arguments}))
    (call,) = parse_hermes(chat, [*opening, *body, *closing]).calls
    assert call.arguments == arguments
