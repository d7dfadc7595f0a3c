"""Between messages and token ids: tokens in, tokens out.

The opening of a conversation is rendered by the model's own chat template; what a tool returns is
appended as ids. Text that people or tools wrote is encoded by a tokenizer without added tokens, so
that no content can forge a turn, a thought or a tool call. Nothing is ever tokenised twice.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer

CUT_MARK = " [cut]"
CUT_FRONT_MARK = "[cut] "


@dataclass(frozen=True, slots=True)
class TemplateFamily:
    """What the incremental rendering of a family of templates needs to know."""

    end_of_turn: str
    before_data: str  # from the end of the policy's turn to the first tool's own words
    between_data: str  # from one tool's words to the next one's, where a turn asked several
    after_data: str  # up to the point where the policy speaks again


TEMPLATES: Mapping[str, TemplateFamily] = {
    "qwen3": TemplateFamily(
        end_of_turn="<|im_end|>",
        before_data="\n<|im_start|>user\n<tool_response>",
        between_data="</tool_response>\n<tool_response>",
        after_data="</tool_response><|im_end|>\n<|im_start|>assistant\n",
    )
}


class Chat:
    """One tokenizer with its chat template."""

    def __init__(self, tokenizer_path: str, template: str = "qwen3"):
        self._tokenizer = AutoTokenizer.from_pretrained(tokenizer_path)
        backend = json.loads(self._tokenizer.backend_tokenizer.to_str())
        self.control_ids: dict[str, int] = {t["content"]: t["id"] for t in backend["added_tokens"]}
        longest_first = sorted(self.control_ids, key=len, reverse=True)
        self._control = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        backend["added_tokens"] = []
        backend["post_processor"] = None
        self._plain = Tokenizer.from_str(json.dumps(backend))
        self._family = TEMPLATES[template]
        self.end_id = self.control_ids[self._family.end_of_turn]

    def opening(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]]
    ) -> list[int]:
        """Ids of the messages and tools, up to the point where the policy speaks."""
        shield = _Shield(self._control)
        text = self._tokenizer.apply_chat_template(
            shield.cover(list(messages)),
            tools=shield.cover(list(tools)) or None,
            add_generation_prompt=True,
            tokenize=False,
        )
        return self._encode_template(str(text), shield.uncover)

    def observation(self, texts: Sequence[str], max_tokens: int) -> list[int]:
        """Ids that answer a turn's calls: its end, each tool's text as data, the next opening.

        Of a text what is beyond `max_tokens` is cut, and a mark says so.
        """
        ids = self.encode_response(self._family.before_data)
        for place, text in enumerate(texts):
            ids += self.encode_response(self._family.between_data) if place else []
            ids += self._data(text, max_tokens)
        return ids + self.encode_response(self._family.after_data)

    def _data(self, text: str, max_tokens: int) -> list[int]:
        data = self.encode_text(f"\n{text}\n")
        if len(data) <= max_tokens:
            return data
        mark = self.encode_text(f"{CUT_MARK}\n")
        return data[: max(0, max_tokens - len(mark))] + mark

    def cut_front(self, text: str, most: int) -> str:
        """The end of the text, of `most` tokens at most; a mark says that its start is missing."""
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
        """The start of the text, of about `most` tokens; a mark says that its end is missing."""
        ids = self.encode_text(text)
        return text if len(ids) <= most else self.decode(ids[:most]) + CUT_MARK

    def encode_text(self, text: str) -> list[int]:
        """Ids of plain text; the spelling of a control token stays text.

        Lone surrogates, which JSON can spell and no encoding holds, become question marks.
        """
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return self._plain.encode(clean, add_special_tokens=False).ids

    def encode_response(self, text: str) -> list[int]:
        """Ids of a response that a script or a demonstration wrote, control tokens and all."""
        return self._encode_template(text, lambda piece: piece)

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode(list(ids), skip_special_tokens=False)

    def _encode_template(self, text: str, uncover: Callable[[str], str]) -> list[int]:
        ids: list[int] = []
        for piece in self._control.split(text):
            if piece in self.control_ids:
                ids.append(self.control_ids[piece])
            elif piece:
                ids.extend(self.encode_text(uncover(piece)))
        return ids


class _Shield:
    """Hides content that spells a control token while the template around it is split."""

    def __init__(self, control: re.Pattern[str]):
        self._control = control
        self._hidden: list[str] = []

    def cover(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._control.sub(self._hide, value)
        if isinstance(value, Mapping):
            return {key: self.cover(item) for key, item in value.items()}
        if isinstance(value, Sequence):
            return [self.cover(item) for item in value]
        return value

    def uncover(self, text: str) -> str:
        return re.sub("\ue000([0-9]+)\ue001", lambda m: self._hidden[int(m.group(1))], text)

    def _hide(self, match: re.Match[str]) -> str:
        self._hidden.append(match.group(0))
        return f"\ue000{len(self._hidden) - 1}\ue001"
