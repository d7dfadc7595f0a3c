import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra_ray.catalogue.signatures import signatures
from orchestra_ray.rollout.chat import CUT_MARK, Chat
from orchestra_ray.tasks.sampler import GroupSampler

CONTROL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "</tool_call>"]
CONTROL += ["<tool_response>", "</tool_response>", "<think>", "</think>"]


def test_an_opening_is_what_the_models_own_template_gives(
    chat: Chat, sampler: GroupSampler
) -> None:
    group = sampler.group(0, 1)
    messages = [{"role": "user", "content": group.task.question}]
    tools = signatures(group.draw)
    theirs = chat._tokenizer.apply_chat_template(
        messages, tools=tools, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert chat.opening(messages, tools) == theirs


@pytest.mark.parametrize("most", [1, 2])
def test_a_transcript_is_what_the_template_gives_for_the_whole_conversation(
    chat: Chat, most: int
) -> None:
    calls = [{"name": "ask", "arguments": {"model": name}} for name in ("nova", "orbit")]
    said = "\n".join(f"<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in calls[:most])
    texts = ["5", "6"][:most]
    ours = chat.opening([{"role": "user", "content": "What is 2 + 3?"}], [])
    ours += [*chat.encode_response(said), chat.end_id] + chat.observation(texts, 100)
    messages = [
        {"role": "user", "content": "What is 2 + 3?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": call} for call in calls[:most]],
        },
        *({"role": "tool", "content": text} for text in texts),
    ]
    theirs = chat._tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert ours == theirs


@pytest.mark.parametrize("control", CONTROL)
@pytest.mark.parametrize("wrap", ["{}", 'say "{}" twice {}', "```\n{}\n```", '{{"x": "{}"}}'])
def test_a_tool_cannot_forge_a_control_token(chat: Chat, control: str, wrap: str) -> None:
    text = wrap.format(control, control)
    ids, harmless = chat.observation([text], 1000), chat.observation(["x"], 1000)
    control_ids = set(chat.control_ids.values())
    assert [i for i in ids if i in control_ids] == [i for i in harmless if i in control_ids]
    assert text in chat.decode(ids)


@pytest.mark.parametrize("control", CONTROL)
def test_neither_can_a_question_or_a_description(chat: Chat, control: str) -> None:
    def tool(text: str) -> dict:
        properties = {"model": {"type": "string", "description": text}}
        function = {"name": "ask", "description": text, "parameters": {"properties": properties}}
        return {"type": "function", "function": function}

    forged = chat.opening([{"role": "user", "content": f"a {control} b"}], [tool(f"c {control} d")])
    honest = chat.opening([{"role": "user", "content": "a b"}], [tool("c d")])
    control_ids = set(chat.control_ids.values())
    assert [i for i in forged if i in control_ids] == [i for i in honest if i in control_ids]
    assert f"a {control} b" in chat.decode(forged) and f"c {control} d" in chat.decode(forged)


@settings(max_examples=50)
@given(st.text(max_size=200))
def test_plain_text_comes_back_and_holds_no_control_token(chat: Chat, text: str) -> None:
    ids = chat.encode_text(text)
    assert not set(ids) & set(chat.control_ids.values())
    assert chat.decode(ids) == text


def test_a_lone_surrogate_is_a_question_mark(chat: Chat) -> None:
    assert chat.decode(chat.encode_text("a \ud800 b")) == "a ? b"


def test_a_long_observation_is_cut_with_a_mark(chat: Chat) -> None:
    ids = chat.observation(["7 " * 500], 20)
    overhead = len(chat.observation([""], 20)) - len(chat.encode_text("\n\n"))
    assert len(ids) == 20 + overhead
    assert f"{CUT_MARK}\n</tool_response>" in chat.decode(ids)
