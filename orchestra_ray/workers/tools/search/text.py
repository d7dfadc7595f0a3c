"""Text in pieces of a bounded length, and text that UTF-8 can hold."""

from collections.abc import Iterator

_ENDS = ("\n\n", "\n", ". ", "。", " ")  # where a piece ends best, the best first


def pieces(text: str, limit_chars: int) -> Iterator[str]:
    """`text` in its order, cut at the ends of paragraphs, lines, sentences or words.

    No piece is longer than the limit or blank; only white space at the cuts is lost.
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
    """`text` with half surrogate pairs, which JSON can spell and UTF-8 cannot, replaced by "?"."""
    return text.encode("utf-8", "replace").decode("utf-8")
