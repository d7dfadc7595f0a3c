"""Exact: the same words, whatever the case, the spaces and the form of the characters."""

import unicodedata


def normal(text: str) -> str:
    """`text` in one case, with single spaces, its characters in their compatible forms."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def is_exact(reference: str, answer: str) -> bool:
    return normal(reference) == normal(answer)
