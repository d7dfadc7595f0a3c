"""Chat templates of the Qwen3 family, made of the parts in which real ones differ."""

from pathlib import Path

from transformers import AutoTokenizer

MARKS = "within <tool_call></tool_call> tags"  # a frame that names the marks, as Qwen3's own does

TEMPLATE = """\
{%- if tools %}{{ "<|im_start|>system\\nFunctions, called MARKS:" }}
{%- for tool in tools %}{{ "\\n" }}{{ tool | tojson }}{% endfor %}{{ "<|im_end|>\\n" }}
{%- endif %}
{%- for m in messages %}
{%- if m.role == "tool" %}
{{- "<|im_start|>user" if loop.previtem.role != "tool" }}
{{- "\\n<tool_response>RESULT" }}{{ m.content }}{{ "\\n</tool_response>" }}
{{- "<|im_end|>\\n" if loop.last or loop.nextitem.role != "tool" }}
{%- else %}{{ "<|im_start|>" + m.role + "\\n" }}
{%- if THOUGHTS and m.reasoning_content %}
{{- "<think>\\n" + m.reasoning_content + "\\n</think>\\n\\n" }}{% endif %}
{{- m.content }}
{%- for call in m.tool_calls or [] %}{{ "" if loop.first and not m.content else "\\n" }}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{ "}\\n</tool_call>" }}{% endfor %}{{ "<|im_end|>\\n" }}
{%- endif %}{% endfor %}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\\nPROMPT" }}{% endif %}"""


def qwen_like(thoughts: str = "true", prompt: str = "", result: str = "\\n") -> str:
    """thoughts: a Jinja condition for those that are repeated. prompt: the end of the generation
    prompt. result: what stands before a tool's words."""
    parts = {"THOUGHTS": thoughts, "PROMPT": prompt, "RESULT": result, "MARKS": MARKS}
    template = TEMPLATE
    for name, text in parts.items():
        template = template.replace(name, text)
    return template


OPENS_THOUGHT = qwen_like(prompt="<think>\\n")


def with_template(tokenizer: Path, template: str | None, folder: Path) -> Path:
    """A folder with that tokenizer and another template."""
    made = AutoTokenizer.from_pretrained(tokenizer)
    made.chat_template = template
    made.save_pretrained(folder)
    return folder
