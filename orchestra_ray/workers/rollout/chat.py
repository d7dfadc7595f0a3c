"""Conversion between messages and token ids.

The opening of a conversation is rendered by the model's own chat template; tool results are
appended as ids. Text written by users, tools or other models is encoded by a tokenizer without
added tokens, so that no content can forge a turn, a thought or a tool call: template and content
are never joined into one string. No text is tokenised twice.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from orchestra_ray.config.model_folder import stop_token_ids
from orchestra_ray.core.errors import ConfigError, first_line

CUT_MARK = " [cut]"
CUT_FRONT_MARK = "[cut] "
_OPEN, _CLOSE = "\ue000", "\ue001"  # delimit the index of a hidden text; private use area
_REMEDY = "use a model of Qwen3's family (model.chat_template: qwen3)"


@dataclass(frozen=True, slots=True)
class Control:
    """A control token, by its spelling. The same spelling in a plain string is text."""

    text: str


@dataclass(frozen=True, slots=True)
class TemplateFamily:
    """The template strings that incremental rendering needs, for one family of templates."""

    end_of_turn: str
    before_data: str  # from the end of the policy's turn to the first tool's text
    between_data: str  # between the texts of two tools, for turns with several calls
    after_data: str  # up to the generation prompt, taken from the model's own template


TEMPLATES: Mapping[str, TemplateFamily] = {
    "qwen3": TemplateFamily(
        end_of_turn="<|im_end|>",
        before_data="\n<|im_start|>user\n<tool_response>",
        between_data="</tool_response>\n<tool_response>",
        after_data="</tool_response><|im_end|>\n",
    )
}


class Chat:
    """One tokenizer with its chat template.

    generation_prompt: the text that the model's template puts before a response. stop_ids: the
    tokens that end a response: the template's end of turn and those of the generation config.
    Raises `ConfigError` if the folder holds no usable tokenizer or template.
    """

    def __init__(self, tokenizer_path: str, template: str = "qwen3"):
        self._path = tokenizer_path
        self._tokenizer = _load(tokenizer_path)
        backend = json.loads(self._tokenizer.backend_tokenizer.to_str())
        self.control_ids: dict[str, int] = {t["content"]: t["id"] for t in backend["added_tokens"]}
        self._control_id_set = frozenset(self.control_ids.values())
        longest_first = sorted(self.control_ids, key=len, reverse=True)
        self._control = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        backend["added_tokens"] = []
        backend["post_processor"] = None
        self._plain = Tokenizer.from_str(json.dumps(backend))
        self._family = TEMPLATES[template]
        self.require([self._family.end_of_turn])
        self.end_id = self.control_ids[self._family.end_of_turn]
        self.stop_ids = (self.end_id, *stop_token_ids(tokenizer_path))
        self.generation_prompt = self._generation_prompt()

    @property
    def vocabulary(self) -> int:
        """The largest token id plus one."""
        return max(self._tokenizer.get_vocab().values()) + 1

    def require(self, controls: Sequence[str]) -> None:
        """Raises `ConfigError` if one of these strings is not a single token."""
        for text in controls:
            if text not in self.control_ids:
                raise ConfigError(f"model.path: {self._path}: no token {text}; {_REMEDY}")

    def opening(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
    ) -> list[int]:
        """Returns the ids of messages and tools, up to and including the generation prompt."""
        shield = _Shield(self._control)
        text = self.render(shield.cover(list(messages)), shield.cover(list(tools)))
        return self._encode_template(text, shield.uncover)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        prompt: bool = True,
    ) -> str:
        """Returns the text from the model's own template; prompt: with the generation prompt."""
        try:
            text = self._tokenizer.apply_chat_template(
                list(messages),
                tools=list(tools) or None,
                add_generation_prompt=prompt,
                tokenize=False,
            )
        except (TemplateError, TypeError, ValueError) as error:
            why = first_line(error)
            line = f"model.path: {self._path}: its chat template fails ({why})"
            raise ConfigError(f"{line}; {_REMEDY}") from None
        return str(text)

    def own_ids(self, text: str) -> list[int]:
        """Returns the model tokenizer's ids of a rendered text, control tokens included."""
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def observation(self, texts: Sequence[str], max_tokens: int) -> list[int]:
        """Returns the ids between two turns: the tools' texts as data, then the next prompt.

        A text of more than `max_tokens` tokens is truncated, with a mark.
        """
        ids = self.encode_response(self._family.before_data)
        for place, text in enumerate(texts):
            ids += self.encode_response(self._family.between_data) if place else []
            ids += self._data(text, max_tokens)
        return ids + self.encode_response(self._family.after_data + self.generation_prompt)

    def _data(self, text: str, max_tokens: int) -> list[int]:
        data = self.encode_text(f"\n{text}\n")
        if len(data) <= max_tokens:
            return data
        mark = self.encode_text(f"{CUT_MARK}\n")
        return data[: max(0, max_tokens - len(mark))] + mark

    def cut_front(self, text: str, most: int) -> str:
        """Returns at most the last `most` tokens as text; a mark replaces a start that was cut."""
        if len(self.encode_text(text)) <= most:
            return text
        room = most
        while room > 0:
            kept = CUT_FRONT_MARK + self.decode(self.encode_text(text)[-room:])
            over = len(self.encode_text(kept)) - most
            if over <= 0:
                return kept
            room -= over
        return ""

    def cut_end(self, text: str, most: int) -> str:
        """Returns about the first `most` tokens as text; a mark replaces an end that was cut."""
        ids = self.encode_text(text)
        return text if len(ids) <= most else self.decode(ids[:most]) + CUT_MARK

    def encode_text(self, text: str) -> list[int]:
        """Returns the ids of plain text; the spelling of a control token stays text.

        Lone surrogates, which JSON can express but UTF-8 cannot, become question marks.
        """
        clean = text.encode("utf-8", "replace").decode("utf-8")
        ids = self._plain.encode(clean, add_special_tokens=False).ids
        if self._control_id_set.isdisjoint(ids):
            return ids
        # The vocabulary itself holds this spelling as one token, so the text is split within it.
        middles = [(match.start() + match.end()) // 2 for match in self._control.finditer(clean)]
        borders = [0, *middles, len(clean)]
        pieces = [clean[start:end] for start, end in pairwise(borders)]
        return [
            i for one in self._plain.encode_batch(pieces, add_special_tokens=False) for i in one.ids
        ]

    def encode(self, *parts: str | Control) -> list[int]:
        """Returns the ids of control tokens and of the plain text between them."""
        ids: list[int] = []
        for is_control, run in groupby(parts, key=lambda part: isinstance(part, Control)):
            if is_control:
                ids.extend(self.control_ids[part.text] for part in run if isinstance(part, Control))
            else:
                ids.extend(self.encode_text("".join(map(str, run))))
        return ids

    def encode_response(self, text: str) -> list[int]:
        """Returns the ids of a text from a template or the policy; control tokens count as such."""
        return self._encode_template(text, lambda piece: piece)

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def _generation_prompt(self) -> str:
        question = [{"role": "user", "content": "?"}]
        before, whole = self.render(question, prompt=False), self.render(question)
        if not whole.startswith(before) or whole == before:
            raise ConfigError(
                f"model.path: {self._path}: its chat template has no generation prompt; {_REMEDY}"
            )
        return whole.removeprefix(before)

    def _encode_template(self, text: str, uncover: Callable[[str], str]) -> list[int]:
        ids: list[int] = []
        for piece in self._control.split(text):
            if piece in self.control_ids:
                ids.append(self.control_ids[piece])
            elif piece:
                ids.extend(self.encode_text(uncover(piece)))
        return ids


def _load(path: str) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError) as error:
        why = first_line(error)
        line = f"model.path: {path}: its tokenizer cannot be loaded ({why})"
        raise ConfigError(f"{line}; copy the model's tokenizer files there") from None
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise ConfigError(f"model.path: {path}: no tokenizer.json; copy the model's files there")
    if not tokenizer.chat_template:
        remedy = "add chat_template.jinja, or use an instruct model of Qwen3's family"
        raise ConfigError(f"model.path: {path}: its tokenizer has no chat template; {remedy}")
    return tokenizer


class _Shield:
    """Replaces control-token spellings in content by placeholders while the template is split.

    Keys count as content. The delimiter of the placeholders is itself replaced, so that no content
    can spell a placeholder.
    """

    def __init__(self, control: re.Pattern[str]):
        self._hideable = re.compile(f"{control.pattern}|{_OPEN}")
        self._hidden: list[str] = []

    def cover(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._hideable.sub(self._hide, value)
        if isinstance(value, Mapping):
            return {self.cover(key): self.cover(item) for key, item in value.items()}
        if isinstance(value, Sequence):
            return [self.cover(item) for item in value]
        return value

    def uncover(self, text: str) -> str:
        return re.sub(f"{_OPEN}([0-9]+){_CLOSE}", lambda m: self._hidden[int(m.group(1))], text)

    def _hide(self, match: re.Match[str]) -> str:
        self._hidden.append(match.group(0))
        return f"{_OPEN}{len(self._hidden) - 1}{_CLOSE}"
