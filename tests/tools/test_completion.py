import pytest

from orchestra_ray.tools.completion import Answer, without_thinking


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
        ("", ""),
    ],
)
def test_thinking_before_the_answer_is_left_out(text: str, rest: str) -> None:
    assert without_thinking(text) == rest


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
