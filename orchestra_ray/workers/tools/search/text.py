"""Splits text into pieces of bounded length, and makes text encodable in UTF-8."""

from collections.abc import Iterator

_ENDS = ("\n\n", "\n", ". ", "。", " ")  # ends of a piece, in order of preference


def pieces(text: str, limit_chars: int) -> Iterator[str]:
    """Yields the pieces of `text`, cut at the ends of paragraphs, lines, sentences or words.

    No piece exceeds the limit or is blank; only white space at the cuts is lost.
    """
    start = 0
    while start < len(text):
        end = _end(text, start, start + limit_chars)
        piece = text[start:end].strip()
        if piece:
            yield piece
        start = end


def _end(text: str, start: int, limit: int) -> int:
    if len(text) <= limit:
        return len(text)
    for mark in _ENDS:
        at = text.rfind(mark, (start + limit) // 2, limit)
        if at >= 0:
            return at + len(mark)
    return limit


def encodable(text: str) -> str:
    """Replaces lone surrogates, which are valid in JSON but not in UTF-8, by "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")
