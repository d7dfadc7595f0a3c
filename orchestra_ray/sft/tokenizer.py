"""A small byte-level BPE tokenizer with Qwen3's control tokens and a brief ChatML template."""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from orchestra_ray.data.catalogue.choices import MODEL

END_OF_TEXT, END_OF_TURN = "<|endoftext|>", "<|im_end|>"
SPECIAL = (END_OF_TEXT, "<|im_start|>", END_OF_TURN)
MARKERS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>")
MARKERS += ("</think>",)

# The frame of a tool call in one piece for each part, so that a call takes few tokens; a model's
# alias in one piece, like a name; then words, single digits, runs of punctuation with their line
# breaks, white space.
WORDS = (
    r'\{"name": "|", "arguments": \{"|": "|": |"?\}\}|'
    rf" ?{MODEL}-\p{{N}}+|"
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Qwen3's turns, tool calls and tool responses; signatures shortened to a line and their tables.
CHAT_TEMPLATE = """\
{%- if tools %}{{ "<|im_start|>system\n<tools>\n" }}
{%- for tool in tools %}{% set f = tool.function %}{% set props = f.parameters.properties %}
{{- f.name }}({{ props | join(", ") }}): {{ f.description }}{{ "\n" }}
{%- for p in props.values() if p.description %}{{ p.description }}{{ "\n" }}{% endfor %}
{%- endfor %}{{ "</tools><|im_end|>\n" }}
{%- endif %}
{%- for m in messages %}
{%- if m.role == "tool" %}
{{- "<|im_start|>user" if loop.first or loop.previtem.role != "tool" }}
{{- "\n<tool_response>\n" }}{{ m.content }}{{ "\n</tool_response>" }}
{{- "<|im_end|>\n" if loop.last or loop.nextitem.role != "tool" }}
{%- else %}{{ "<|im_start|>" + m.role + "\n" }}{{ m.content or "" }}
{%- for call in m.tool_calls or [] %}{% set c = call.function or call %}
{{- "" if loop.first and not m.content else "\n" }}
{{- '<tool_call>\n{"name": "' + c.name + '", "arguments": ' }}{{ c.arguments | tojson }}
{{- "}\n</tool_call>" }}{% endfor %}{{ "<|im_end|>\n" }}
{%- endif %}{% endfor %}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\n" }}{% endif %}"""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Trains BPE merges on `texts`; `vocab_size` includes the control tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(SPECIAL) - len(MARKERS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in MARKERS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
    )
