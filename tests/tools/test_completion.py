import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.tools.completion import Answer, PolicyTurn, split_calls, split_thinking

MARKS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<|im_end|>"]
WORDS = st.lists(st.sampled_from([*MARKS, "a", "{", "}", '"', "\n", "é"]), max_size=8).map("".join)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("42", "42"),
        ("<think>6 x 7</think>42", "42"),
        ("\n<think>a <think> b</think>42", "42"),
        ("6 x 7 is</think>42", "42"),  # the template opened the thinking
        ("<think></think>42</think>", "42</think>"),
        ("<think>for ever", ""),
        ("The tag <think> opens and </think> closes", "The tag <think> opens and </think> closes"),
        ("<tool_call>{'</think>'}</tool_call>", "<tool_call>{'</think>'}</tool_call>"),
        ("", ""),
    ],
)
def test_thinking_before_the_answer_is_left_out(text: str, rest: str) -> None:
    assert split_thinking(text)[1] == rest


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_a_stream_adds_up(name: str) -> None:
    answer = Answer()
    for delta in ({"role": "assistant"}, {name: "2 and "}, {name: "2"}, {"content": "4"}, {}):
        answer.add({"choices": [{"delta": delta, "finish_reason": None}]})
    assert answer.finish_reason is None
    answer.add({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    assert answer.finish_reason == "stop"
    assert answer.text(strip_thinking=True) == "4"
    assert answer.text(strip_thinking=False) == "<think>\n2 and 2\n</think>\n\n4"


def answered(message: dict) -> Answer:
    answer = Answer()
    answer.add({"choices": [{"message": message, "finish_reason": "stop"}]})
    return answer


@given(said=WORDS, code=WORDS)
def test_a_mark_in_an_argument_or_in_the_words_stays_there(said: str, code: str) -> None:
    said = f"I say {said}"
    arguments = json.dumps({"code": code})
    function = {"function": {"name": "python", "arguments": arguments}}
    turn = answered({"content": said, "tool_calls": [function]}).turn(strip_thinking=True)
    assert [json.loads(call) for call in turn.calls] == [
        {"name": "python", "arguments": {"code": code}}
    ]
    assert turn.said == split_thinking(said)[1].strip()
    assert PolicyTurn.load(turn.dump()) == turn


@given(WORDS)
def test_calls_that_a_server_left_in_the_content_are_read_whatever_their_strings_hold(
    code: str,
) -> None:
    calls = [{"name": "python", "arguments": {"code": code}}, {"name": "f", "arguments": {}}]
    text = "I run it.\n" + "\n".join(f"<tool_call>\n{json.dumps(c)}\n</tool_call>" for c in calls)
    said, found = split_calls(text)
    assert said.strip() == "I run it." and [json.loads(call) for call in found] == calls


@pytest.mark.parametrize(
    ("text", "said", "calls"),
    [
        ("use <tool_call> to call", "use <tool_call> to call", []),
        ("a <tool_call>{oops</tool_call> b", "a ", ["{oops"]),
        ("<tool_call>{oops", "", ["{oops"]),
        ("", "", []),
    ],
)
def test_a_mark_without_json_is_a_word_and_malformed_json_a_call(
    text: str, said: str, calls: list[str]
) -> None:
    assert split_calls(text) == (said, calls)


@given(WORDS)
def test_a_call_in_the_content_alone_keeps_every_mark_in_its_strings(code: str) -> None:
    call = {"name": "python", "arguments": {"code": code}}
    content = f"<tool_call>\n{json.dumps(call)}\n</tool_call>"
    for message in ({"content": content}, {"content": content, "reasoning_content": "hm"}):
        (found,) = answered(message).turn(strip_thinking=True).calls
        assert json.loads(found) == call


def test_thinking_in_its_own_field_leaves_the_content_whole() -> None:
    said = "The tag </think> ends a thought. Answer: 42"
    answer = answered({"content": said, "reasoning": "hm"})
    assert answer.text(strip_thinking=True) == said
    assert answer.turn(strip_thinking=True) == PolicyTurn(said)


@pytest.mark.parametrize("arguments", ['{"a": 1}, "name": "other"', "{oops", '"}', "[" * 2_000])
def test_arguments_that_are_no_json_make_no_other_call(arguments: str) -> None:
    function = {"function": {"name": "python", "arguments": arguments}}
    (call,) = answered({"content": "", "tool_calls": [function]}).turn(True).calls
    with pytest.raises(ValueError):
        json.loads(call)
    assert call.startswith('{"name": "python", "arguments": "')


def test_thinking_is_kept_apart_or_left_out() -> None:
    answer = answered({"content": "<think>\n6 x 7\n</think>\n\n42"})
    assert answer.turn(strip_thinking=False) == PolicyTurn("42", (), "6 x 7")
    assert answer.turn(strip_thinking=True) == PolicyTurn("42")
    field = answered({"content": "42", "reasoning_content": "6 x 7"})
    assert field.turn(strip_thinking=False) == PolicyTurn("42", (), "6 x 7")
