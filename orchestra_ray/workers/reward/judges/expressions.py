r"""Extracts the expression stated by an answer, as text, without parsing it as mathematics.

A box or an <answer> is taken as a whole; adjacent boxes form a list. In a sentence that states the
answer, and in the last sentence of prose, the expression is the text between dollars, else the
text after the last "is". A short text without words is itself an expression.
"""

import re

from orchestra_ray.workers.reward.judges.statement import Place, Statement, stated, unmarked

_SPACES = re.compile(r"\\[;:,!](?=[\s\d\\A-Za-z{])")
_SEGMENT = re.compile(
    r"\$\$?([^$]{1,2000}?)\$\$?|\\\((.{1,2000}?)\\\)|\\\[(.{1,2000}?)\\\]", re.DOTALL
)
_WRAPPER = re.compile(r"\\(?:text|textbf|mathrm|mbox)\s*\{([^{}]*)\}")
_COMMAND = re.compile(
    r"\\[A-Za-z]+(?:\s*\{[A-Za-z ]*\})?|\b(?:or|and|sqrt|sin|cos|tan|log|ln|exp|pi)\b"
)
_WORD = re.compile(r"[^\W\d_]{3,}")
_JOIN = re.compile(r"\s*(?:,|;|\bor\b|\band\b|,\s*(?:or|and))\s*", re.IGNORECASE)
_CUT = re.compile(
    r"\s*(?:,\s*(?:which|where|as|because|since|with|after|when|so)\b"
    r"|\((?=(?:[^()\\]|\\[A-Za-z]++){0,200}?(?<![A-Za-z\\])[A-Za-z]{3})"
    r"|\b(?:because|since|given that|as we|as it)\b).*",
    re.IGNORECASE | re.DOTALL,
)
_RESTATED = re.compile(
    r"\b(?:is|are|so|thus|hence|therefore|equals?|equal to|get|gives?|makes?|have|obtain|be)\b"
    r"|:(?=\s)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|\n+")
_DENIED = re.compile(r"^\s*not\b", re.IGNORECASE)


def stated_expression(answer: str) -> str | None:
    said = [_expression(one) for one in stated(_SPACES.sub(_space, answer))]
    if not said or any(one is None for one in said):
        return None
    texts = [one for one in said if one]
    if len(texts) > 1 and stated(answer)[0].place is not Place.MARKED and len(set(texts)) > 1:
        return None
    return ", ".join(dict.fromkeys(texts)) if texts else None


def _space(match: re.Match[str]) -> str:
    return "" if match[0] == r"\!" else " " if match[0] in (r"\;", r"\:") else match[0]


def _expression(one: Statement) -> str | None:
    text = one.text.strip()
    if one.place is Place.MARKED:
        inner = stated(_WRAPPER.sub(r"\1", text))[-1]
        return _of_sentence(inner.text) if inner.place is Place.SENTENCE else text
    if one.place is Place.SENTENCE:
        return _of_sentence(text) or (_of_prose(one.after) if not text else None)
    return _of_prose(text)


def _is_prose(text: str) -> bool:
    return len(_WORD.findall(_COMMAND.sub(" ", _WRAPPER.sub(" ", text)))) > 0


def _of_prose(text: str) -> str | None:
    text = unmarked(text).strip()
    if not text or not _is_prose(text) or len(text.split()) == 1:
        return text or None
    for sentence in reversed(_SENTENCE_END.split(text[-4_000:])):
        if sentence.strip() and not sentence.rstrip().endswith("?"):
            return _of_sentence(sentence)
    return None


def _of_sentence(text: str) -> str | None:
    text = text.strip()
    segments = list(_SEGMENT.finditer(text))
    outside = _SEGMENT.sub(" ", text)
    if segments and _is_prose(outside):
        return _segments(text, segments)
    text = _CUT.sub("", text, count=1)
    if not _is_prose(text):
        return text.strip() or None
    pieces = [one for one in _RESTATED.split(text) if one and one.strip(" ,.:")]
    last = pieces[-1].strip(" :") if pieces else ""
    return None if not last or _DENIED.match(last) else last


def _segments(text: str, segments: list[re.Match[str]]) -> str | None:
    """Returns the last formula outside a reason, with those listed next to it."""
    cut = _CUT.search(text)
    kept = [one for one in segments if cut is None or one.end() <= cut.start()] or segments[:1]
    taken = [kept[-1]]
    for one in reversed(kept[:-1]):
        if not _JOIN.fullmatch(text[one.end() : taken[0].start()]):
            break
        taken.insert(0, one)
    behind = text[taken[-1].end() :].split()
    if behind and behind[0].lower() in ("or", "and", "not", "to"):
        return None
    return ", ".join(next(group for group in one.groups() if group).strip() for one in taken)
