import re
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from orchestra_ray.core.errors import ConfigError
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.parsing import opens_thought, parse_hermes, write_hermes
from orchestra_ray.workers.rollout.template_check import check_template

from .templates import OPENS_THOUGHT, qwen_like, with_template


def test_the_tiny_policys_own_template_fits(chat: Chat) -> None:
    check_template(chat, "tiny")


@pytest.mark.parametrize(
    "template",
    [
        pytest.param(qwen_like(), id="repeats thoughts"),
        pytest.param(qwen_like(thoughts="false"), id="drops thoughts"),
        pytest.param(qwen_like(thoughts="loop.last"), id="drops earlier thoughts"),
        pytest.param(OPENS_THOUGHT, id="opens the thought"),
        pytest.param(qwen_like("false", "<think>\\n"), id="opens the thought and drops it later"),
    ],
)
def test_templates_of_the_family_fit(policy_folder: Path, tmp_path: Path, template: str) -> None:
    check_template(Chat(str(with_template(policy_folder, template, tmp_path))), "here")


@pytest.mark.parametrize(
    ("template", "differs"),
    [
        (qwen_like(prompt="<think>\\n\\n</think>\\n\\n"), r"it writes '\\nI begin with red"),
        (qwen_like(result=""), "<tool_response>' it writes ' A <b>"),
        (qwen_like().replace('"arguments": ', '"parameters": '), "it writes '.*parameters"),
        (qwen_like().replace('<|im_start|>user" if', '<|im_start|>tool" if'), "it writes 'tool"),
        (qwen_like().replace("| tojson", "| tojson | upper"), "does not show the functions"),
        (qwen_like().replace("tool | tojson", "tool | tojson(ensure_ascii=true)"), "changes text"),
        (qwen_like().replace("s | tojson", "s | tojson(ensure_ascii=true)"), r"it writes '.*u00e9"),
        (qwen_like().replace("m.content }}", "m.content | trim }}"), "it writes 'A <b>"),
        (qwen_like().replace("m.content }}", "m.content | escape }}"), "it writes '.*lt;b"),
        (qwen_like().replace("tool | tojson", "'?'"), "does not show the functions"),
    ],
)
def test_another_template_is_refused_with_the_first_difference(
    policy_folder: Path, tmp_path: Path, template: str, differs: str
) -> None:
    chat = Chat(str(with_template(policy_folder, template, tmp_path)))
    with pytest.raises(ConfigError, match="model.path: here: its chat template") as caught:
        check_template(chat, "here")
    assert "\n" not in str(caught.value)
    assert re.search(differs, str(caught.value))


def test_a_template_that_fails_on_a_message_of_the_context_policy_is_refused(
    policy_folder: Path, tmp_path: Path
) -> None:
    strict = "{% for m in messages if m.role == 'system' %}{{ raise_exception('no system') }}"
    template = f"{strict}{{% endfor %}}{qwen_like()}"
    chat = Chat(str(with_template(policy_folder, template, tmp_path)))
    check_template(chat, "here")
    with pytest.raises(ConfigError, match="no system"):
        check_template(chat, "here", system="You are good at using tools.")


def test_a_template_that_wants_a_description_of_every_argument_is_refused(
    policy_folder: Path, tmp_path: Path
) -> None:
    wants = "{% for t in tools or [] %}{% for p in t.function.parameters.properties.values() %}"
    wants += "{{ p.description.strip() }}{% endfor %}{% endfor %}"
    chat = Chat(str(with_template(policy_folder, wants + qwen_like(), tmp_path)))
    with pytest.raises(ConfigError, match="its chat template fails"):
        check_template(chat, "here")


def test_a_tokenizer_without_a_mark_of_the_parser_is_refused(
    policy_folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tokenizer.json"
    AutoTokenizer.from_pretrained(policy_folder).save_pretrained(tmp_path)
    file.write_text(file.read_text().replace('"<think>"', '"<thinking>"'))
    with pytest.raises(ConfigError, match="no token <think>; use a model of Qwen3"):
        check_template(Chat(str(tmp_path)), "here")


def test_a_thought_that_the_prompt_opens_is_read_and_written_as_such(
    policy_folder: Path, tmp_path: Path
) -> None:
    chat = Chat(str(with_template(policy_folder, OPENS_THOUGHT, tmp_path)))
    assert opens_thought(chat)
    said = parse_hermes(chat, [*chat.encode_response("six sevens\n</think>\n\n42"), chat.end_id])
    assert said.answer == "42" and said.format_ok
    unfinished = parse_hermes(chat, chat.encode_response("six sevens, 42"))
    assert unfinished.answer is None and not unfinished.format_ok
    assert parse_hermes(chat, write_hermes(chat, "42")).answer == "42"
    assert chat.decode(chat.observation(["5"], 100)).endswith("<|im_start|>assistant\n<think>\n")
