"""Grader of exact matches, ignoring case, spacing and compatibility forms of characters."""

import unicodedata


def normal(text: str) -> str:
    """Returns text case-folded, with single spaces, in NFKC form."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def is_exact(reference: str, answer: str) -> bool:
    return normal(reference) == normal(answer)
