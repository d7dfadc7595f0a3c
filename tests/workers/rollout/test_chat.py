import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.data.catalogue.signatures import signatures
from orchestra_ray.data.tasks.sampler import GroupSampler
from orchestra_ray.workers.rollout.chat import CUT_MARK, Chat, Control

CONTROL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "</tool_call>"]
CONTROL += ["<tool_response>", "</tool_response>", "<think>", "</think>"]


def test_an_opening_is_what_the_models_own_template_gives(
    chat: Chat, sampler: GroupSampler
) -> None:
    group = sampler.group(0, 1)
    messages = [{"role": "user", "content": group.task.question}]
    tools = signatures(group.toolset)
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


PLACEHOLDERS = ["\ue000", "\ue001", "\ue0000\ue001", "\ue00099\ue001", "\ue000\ue0001\ue001"]
PIECES = st.sampled_from([*CONTROL, *PLACEHOLDERS, "a", "7", "\n"])
SPELLED = st.lists(PIECES, max_size=5).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | SPELLED,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SPELLED, inner, max_size=3),
    max_leaves=8,
)


def tool_named(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties}
    function = {"name": name, "description": "d", "parameters": parameters}
    return {"type": "function", "function": function}


@settings(max_examples=100)
@given(content=SPELLED, name=SPELLED, properties=st.dictionaries(SPELLED, JSON, max_size=3))
def test_no_text_key_or_name_becomes_a_control_token_or_is_lost(
    chat: Chat, content: str, name: str, properties: dict[str, Any]
) -> None:
    described = {key: {"description": json.dumps(value)} for key, value in properties.items()}
    ids = chat.opening([{"role": "user", "content": content}], [tool_named(f"f{name}", described)])
    harmless = {f"p{n}": {"description": "d"} for n in range(len(described))}
    honest = chat.opening([{"role": "user", "content": "x"}], [tool_named("f", harmless)])
    control_ids = set(chat.control_ids.values())
    assert [i for i in ids if i in control_ids] == [i for i in honest if i in control_ids]
    text = chat.decode(ids)
    assert f"user\n{content}" in text and f"f{name}({', '.join(described)})" in text
    assert all(one["description"] in text for one in described.values())


def test_a_placeholder_in_a_users_text_is_text(chat: Chat) -> None:
    for text in PLACEHOLDERS:
        ids = chat.opening([{"role": "user", "content": f"<think> {text}"}], [])
        assert f"<think> {text}" in chat.decode(ids)


def test_a_tokenizer_that_knows_a_control_token_as_a_word_yields_it_for_a_control_alone(
    tmp_path: Path,
) -> None:
    """Its model holds the spelling as one piece, which is found without any added token."""
    letters = [chr(n) for n in range(32, 127)]
    vocabulary = {text: n for n, text in enumerate(["<|im_end|>", *letters])}
    backend = Tokenizer(models.WordPiece(vocabulary, unk_token="?", continuing_subword_prefix=""))
    backend.add_special_tokens([AddedToken("<|im_end|>", special=True)])
    template = (
        "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}>{% endif %}"
    )
    whole = PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template)
    whole.save_pretrained(tmp_path)
    chat = Chat(str(tmp_path))
    end = chat.control_ids["<|im_end|>"]
    assert end in chat._plain.encode("a<|im_end|>b", add_special_tokens=False).ids
    assert end not in chat.encode_text("a<|im_end|>b<|im_end|>")
    assert chat.encode("a", Control("<|im_end|>"), "b").count(end) == 1


def test_parts_are_encoded_as_the_text_between_control_tokens(chat: Chat) -> None:
    ids = chat.encode("\n", "thought", "\n", Control("</think>"), "\n\n", "", "42 </think>")
    close = chat.control_ids["</think>"]
    assert ids == [*chat.encode_text("\nthought\n"), close, *chat.encode_text("\n\n42 </think>")]


def test_a_folder_without_what_a_chat_needs_is_refused_in_one_line(
    policy_folder: Path, tmp_path: Path
) -> None:
    def refusal(folder: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            Chat(str(folder))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "its tokenizer cannot be loaded" in refusal(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(policy_folder)
    for number, (template, problem) in enumerate(
        [
            (None, "its tokenizer has no chat template; add"),
            ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
            ("{% for m in messages %}{{ m.content }}{% endfor %}", "no generation prompt"),
        ]
    ):
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder := tmp_path / str(number))
        assert problem in refusal(folder)


def test_a_generation_stops_at_the_turns_end_and_at_what_the_model_names(
    policy_folder: Path, tmp_path: Path
) -> None:
    AutoTokenizer.from_pretrained(policy_folder).save_pretrained(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [3, 0]}')
    chat = Chat(str(tmp_path))
    assert set(chat.stop_ids) == {chat.end_id, 3, 0}


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
