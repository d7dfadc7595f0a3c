"""Splits a text into words for BM25.

The only knowledge of a language is how its script separates words; in scripts that do not, each
letter is a word. Special tokens of a chat template are ordinary words.
"""

import re
import unicodedata

import regex
from bm25s.stopwords import STOPWORDS_EN

_STOP_WORDS = frozenset(STOPWORDS_EN)
_ACCENTS = re.compile("[\u0300-\u036f]+")
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(rf"(?V1)[{_UNSPACED}]\p{{M}}*+|[[\p{{L}}\p{{N}}\p{{M}}]--[{_UNSPACED}]]++")
_ASCII_WORD = re.compile("[a-z0-9]+")  # equivalent on ASCII, and faster


def words(text: str) -> list[str]:
    """Returns the words in order, without case, accents and stop words."""
    folded = _fold(text)
    pattern = _ASCII_WORD if folded.isascii() else _WORD
    return [word for word in pattern.findall(folded) if word not in _STOP_WORDS]


def _fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text).casefold())
    return unicodedata.normalize("NFKC", bare)
