import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra_ray.core.money import Usage
from orchestra_ray.workers.tools.endpoint.completion import (
    Answer,
    Ending,
    ErrorInAnswer,
    PolicyTurn,
    Unreadable,
    split_calls,
    split_thinking,
)

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


MESSAGES: dict[str, tuple[dict[str, Any], PolicyTurn]] = {
    "a text": ({"content": "42"}, PolicyTurn("42")),
    "a list of parts": (
        {"content": [{"type": "text", "text": "4"}, {"type": "output_text", "text": "2"}]},
        PolicyTurn("42"),
    ),
    "parts without a type, and bare text": (
        {"content": ["4", {"text": "2"}, {"type": "image_url", "image_url": {"url": "x"}}, None]},
        PolicyTurn("42"),
    ),
    "one part": ({"content": {"type": "text", "text": {"value": "42"}}}, PolicyTurn("42")),
    "Anthropic's blocks": (
        {
            "content": [
                {"type": "thinking", "thinking": "6 x 7", "signature": "s"},
                {"type": "redacted_thinking", "data": "x"},
                {"type": "text", "text": "42"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
            ]
        },
        PolicyTurn("42", ('{"name": "f", "arguments": {"x": 1}}',), "6 x 7"),
    ),
    "Mistral's blocks": (
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "6 x 7"}]},
                {"type": "text", "text": "42"},
            ]
        },
        PolicyTurn("42", (), "6 x 7"),
    ),
    "a reasoning part": (
        {"content": [{"type": "reasoning", "text": "6 x 7"}, {"type": "text", "text": "42"}]},
        PolicyTurn("42", (), "6 x 7"),
    ),
    "reasoning under two names": (
        {
            "content": "42",
            "reasoning": "6 x 7",
            "reasoning_details": [{"type": "reasoning.text", "text": "6 x 7"}],
        },
        PolicyTurn("42", (), "6 x 7"),
    ),
    "reasoning details alone": (
        {
            "content": "42",
            "reasoning": None,
            "reasoning_details": [
                {"type": "reasoning.summary", "summary": "6 x 7"},
                {"type": "reasoning.encrypted", "data": "x"},
            ],
        },
        PolicyTurn("42", (), "6 x 7"),
    ),
    "thinking blocks": (
        {"content": "42", "thinking_blocks": [{"type": "thinking", "thinking": "6 x 7"}]},
        PolicyTurn("42", (), "6 x 7"),
    ),
    "arguments as an object": (
        {"content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"x": "é"}}}]},
        PolicyTurn("", ('{"name": "f", "arguments": {"x": "é"}}',)),
    ),
    "arguments that are not there": (
        {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": None}}]},
        PolicyTurn("", ('{"name": "f", "arguments": {}}',)),
    ),
    "a flat call": (
        {"tool_calls": [{"name": "f", "arguments": '{"x": 1}'}]},
        PolicyTurn("", ('{"name": "f", "arguments": {"x": 1}}',)),
    ),
    "one call that is no list": (
        {"tool_calls": {"function": {"name": "f", "arguments": "{}"}}},
        PolicyTurn("", ('{"name": "f", "arguments": {}}',)),
    ),
    "the legacy call": (
        {"content": None, "function_call": {"name": "f", "arguments": '{"x": 1}'}},
        PolicyTurn("", ('{"name": "f", "arguments": {"x": 1}}',)),
    ),
    "calls that are all numbered 0": (
        {
            "tool_calls": [
                {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}},
                {"index": 0, "id": "b", "function": {"name": "f", "arguments": "{}"}},
            ]
        },
        PolicyTurn("", ('{"name": "f", "arguments": {}}',) * 2),
    ),
}


@pytest.mark.parametrize("dialect", MESSAGES)
def test_a_message_is_read_in_every_dialect(dialect: str) -> None:
    message, turn = MESSAGES[dialect]
    assert answered({"role": "assistant"} | message).turn(strip_thinking=False) == turn
    streamed = Answer()
    streamed.add({"choices": [{"delta": {"role": "assistant"} | message}]})
    assert streamed.turn(strip_thinking=False) == turn


def test_a_refusal_is_read_from_its_field_and_from_a_part() -> None:
    part = {"content": [{"type": "refusal", "refusal": "I will not."}]}
    for message in (part, {"content": None, "refusal": "I will not."}):
        assert answered(message).refusal == ["I will not."]


def test_a_text_completion_is_read() -> None:
    answer = Answer()
    answer.add({"choices": [{"text": "forty"}]})
    answer.add({"choices": [{"text": "-two", "finish_reason": "stop"}]})
    assert answer.text(strip_thinking=True) == "forty-two"


def test_the_first_choice_is_read_whatever_stands_beside_it() -> None:
    whole = Answer()
    beside = {"index": 1, "message": {"content": "no"}, "finish_reason": "length"}
    whole.add({"choices": [beside, {"index": 0, "message": {"content": "42"}}]})
    streamed = Answer()
    for index, text in ((0, "4"), (1, "no"), (0, "2")):
        streamed.add({"choices": [{"index": index, "delta": {"content": text}}]})
    for answer in (whole, streamed):
        assert answer.text(strip_thinking=True) == "42" and answer.ending is Ending.COMPLETE


def test_a_message_beside_the_deltas_repeats_them() -> None:
    streamed = Answer()
    for text, so_far in (("4", "4"), ("2", "42"), ("", "42")):
        delta, message = {"role": "assistant", "content": text}, {"content": so_far}
        streamed.add({"choices": [{"delta": delta, "message": message}]})
    streamed.add({"choices": [{"delta": {}, "message": {"content": "42"}}]})
    assert streamed.text(strip_thinking=True) == "42"
    whole = Answer()
    empty = {"role": "assistant", "content": ""}
    whole.add({"choices": [{"delta": empty, "message": {"content": "42"}}]})
    assert whole.text(strip_thinking=True) == "42"


@pytest.mark.parametrize(
    ("told", "ending"),
    [
        (None, Ending.COMPLETE),
        ("", Ending.COMPLETE),
        ("stop", Ending.COMPLETE),
        ("STOP", Ending.COMPLETE),
        ("FinishReason.STOP", Ending.COMPLETE),
        ({"type": "stop", "matched": 1}, Ending.COMPLETE),
        ("end_turn", Ending.COMPLETE),
        ("function_call", Ending.COMPLETE),
        ("length", Ending.CUT),
        ("MAX_TOKENS", Ending.CUT),
        ("content_filter", Ending.FILTERED),
        ("RECITATION", Ending.FILTERED),
        ("error", Ending.FAILED),
        ("abort", Ending.FAILED),
        ("insufficient_system_resource", Ending.FAILED),
        ("gave_up", Ending.UNKNOWN),
    ],
)
def test_how_an_answer_ended(told: Any, ending: Ending) -> None:
    answer = Answer()
    answer.add({"choices": [{"message": {"content": "4"}, "finish_reason": told}]})
    assert answer.ending is ending


def streamed_calls(*pieces: dict[str, Any]) -> list[Any]:
    answer = Answer()
    for piece in pieces:
        answer.add({"choices": [{"delta": {"tool_calls": [piece]}}]})
    return [json.loads(call) for call in answer.turn(strip_thinking=True).calls]


def function(name: str | None, arguments: Any, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}} | more


F1, G2 = {"name": "f", "arguments": {"x": 1}}, {"name": "g", "arguments": {"x": 2}}
F2 = {"name": "f", "arguments": {"x": 2}}
STREAMED: dict[str, tuple[list[dict[str, Any]], list[Any]]] = {
    "by index": (
        [
            function("f", "", index=0, id="a"),
            function("g", "", index=1, id="b"),
            function(None, '{"x"', index=0),
            function(None, '{"x": 2}', index=1),
            function(None, ": 1}", index=0),
        ],
        [F1, G2],
    ),
    "the name in every chunk": (
        [function("f", '{"x"', index=0, id="a"), function("f", ": 1}", index=0, id="a")],
        [F1],
    ),
    "the name in parts": (
        [function("f", "", index=0), function("oo", "{}", index=0)],
        [{"name": "foo", "arguments": {}}],
    ),
    "no index, by id": (
        [
            function("f", '{"x"', id="a"),
            function("g", '{"x"', id="b"),
            function(None, ": 1}", id="a"),
            function(None, ": 2}", id="b"),
        ],
        [F1, G2],
    ),
    "a null index, in order": (
        [
            function("f", '{"x"', index=None, id=""),
            function(None, ": 1}", index=None, id=None),
            function("g", '{"x": 2}', index=None),
        ],
        [F1, G2],
    ),
    "no index, whole calls of one function": (
        [function("f", {"x": 1}), function("f", {"x": 2})],
        [F1, F2],
    ),
    "no index, the name in every chunk": (
        [function("f", '{"x"'), function("f", ": 1}"), function("f", '{"x": 2}')],
        [F1, F2],
    ),
    "all numbered 0": (
        [function("f", '{"x": 1}', index=0, id="a"), function("f", '{"x": 2}', index=0, id="b")],
        [F1, F2],
    ),
    "another id in every chunk": (
        [function("f", '{"x"', index=0, id="a"), function(None, ": 1}", index=0, id="b")],
        [F1],
    ),
    "an empty object before the text": (
        [function("f", {}, index=0), function(None, '{"x": 1}', index=0)],
        [F1],
    ),
}


@pytest.mark.parametrize("dialect", STREAMED)
def test_calls_of_a_stream_are_put_together(dialect: str) -> None:
    pieces, calls = STREAMED[dialect]
    assert streamed_calls(*pieces) == calls


def test_a_legacy_call_of_a_stream_is_put_together() -> None:
    answer = Answer()
    for told in ({"name": "f"}, {"arguments": '{"x"'}, {"arguments": ": 1}"}):
        answer.add({"choices": [{"delta": {"content": None, "function_call": told}}]})
    assert list(map(json.loads, answer.turn(strip_thinking=True).calls)) == [F1]


CALLS = st.lists(
    st.tuples(st.sampled_from(["f", "python", "search"]), st.dictionaries(WORDS, WORDS)), max_size=3
)
TOLD = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}


def cut(data: st.DataObject, text: str) -> list[str]:
    places = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def deltas(data: st.DataObject, message: dict[str, Any]) -> list[dict[str, Any]]:
    """The message in chunks: first the reasoning, then the content, then each call."""
    found: list[dict[str, Any]] = [
        {"role": "assistant", "content": data.draw(st.sampled_from(["", None]))}
    ]
    found += [{"reasoning": text, "content": None} for text in cut(data, message["reasoning"])]
    for text in cut(data, message["content"]):
        part = [{"type": "text", "text": text}]
        found.append({"content": data.draw(st.sampled_from([text, part]))})
    numbered, repeats = data.draw(st.booleans()), data.draw(st.booleans())
    for place, call in enumerate(message["tool_calls"]):
        asked = call["function"]
        for n, text in enumerate(cut(data, asked["arguments"])):
            name = asked["name"] if n == 0 or repeats else None
            mark: dict[str, Any] = (
                {"index": place} if numbered else {"index": None, "id": call["id"]}
            )
            found.append({"tool_calls": [function(name, text, **mark)]})
    return found


@given(st.data(), WORDS, WORDS, CALLS)
def test_any_chunking_gives_what_the_whole_body_does(
    data: st.DataObject, content: str, reasoning: str, asked: Sequence[Any]
) -> None:
    calls = [
        {"id": f"c{n}", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for n, (name, arguments) in enumerate(asked)
    ]
    message = {"content": content, "reasoning": reasoning, "tool_calls": calls}
    whole, streamed = Answer(), Answer()
    whole.add({"choices": [{"message": message, "finish_reason": "stop"}], "usage": TOLD})
    for delta in deltas(data, message):
        streamed.add({"choices": [{"delta": delta, "finish_reason": None}], "usage": None})
    streamed.add({"choices": [{"delta": {}, "finish_reason": "stop"}]})
    streamed.add({"choices": [], "usage": TOLD})
    most = Usage(100, 0, 100)
    for strip in (True, False):
        assert streamed.turn(strip) == whole.turn(strip)
        assert streamed.text(strip) == whole.text(strip)
    assert streamed.ending is whole.ending is Ending.COMPLETE
    assert streamed.usage(most) == whole.usage(most) == Usage(9, 0, 5)
    assert streamed.estimate("a", most) == whole.estimate("a", most)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = ("content", "reasoning", "reasoning_details", "refusal", "tool_calls", "function_call")
ODD = st.dictionaries(st.sampled_from(KEYS), JSON)
CHOICE = st.fixed_dictionaries({}, optional={"index": JSON, "message": ODD | JSON, "delta": ODD})


@given(st.lists(JSON | st.fixed_dictionaries({"choices": JSON | st.lists(CHOICE | JSON)})))
def test_whatever_comes_is_read_or_unreadable_or_an_error(pieces: list[Any]) -> None:
    answer = Answer()
    for piece in pieces:
        try:
            answer.add(piece)
        except (Unreadable, ErrorInAnswer):
            continue
    answer.text(True)
    assert PolicyTurn.load(answer.turn(False).dump()) == answer.turn(False)
    answer.usage(Usage(9, 0, 9))
    answer.estimate("", Usage(9, 0, 9))
