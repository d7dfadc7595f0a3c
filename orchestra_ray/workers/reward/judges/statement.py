r"""Finds the result in an answer, for the graders of numbers, choices and mathematics.

In this order: between <answer> tags, in the last \boxed{} (inside the tags, if there are both),
after the last `####`, in a statement such as "The answer is ...", else in the whole answer. The
last of several statements counts, unless adjacent ones differ, which is a list of guesses.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from orchestra_ray.data.catalogue.parsers import Parser, boxes, find_marked

MOST_CHARACTERS = 20_000  # only the end of a longer answer is read

_HASHES = re.compile(r"^[ \t]*####[ \t]*(?=[^\s#A-Za-z]|[A-Za-z]\b)([^\n]*)$", re.MULTILINE)
_WORDS = (
    r"answers?|antwort(?:en)?|lösung|réponse|reponse|respuesta|risposta|resposta|antwoord|svar"
    r"|ответ"
)
_VERBS = r"(?:(?:is|are|was|be|ist|sind|est|es|è|é|seems|appears)\b|[:=：＝]|\n|[-–—]+\s)"
_LEAD = re.compile(
    rf"(?:\b(?:{_WORDS})\b[^.?!\n:=：;,]{{0,60}}?(?:\s|(?=[:=：＝]))*{_VERBS}|(?:答案|答え|答)(?:是|为|為|は|[:：]))"
    r"(?:\s*(?:to\s+be|[:=：]))*\s*",
    re.IGNORECASE,
)
# A value directly after a lead: `5 Answer: 6` are two statements.
_VALUE = re.compile(r"[\s(\[\"'“‘]*(?:[-+$\\€£\d.]|[A-HJ-Z](?![\w'’]))")
_CONCLUDES = re.compile(
    r"\b(?:so|thus|hence|therefore|then|which|means?|meaning|implies|gives?|giving|making)\b"
    r"[^.?!\n]{0,60}$",
    re.IGNORECASE,
)
# `This answer is reasonable, as ...` comments on an earlier statement.
_REMARK = re.compile(
    r"(?:indeed |also |therefore )?(?:correct|right|reasonable|consistent|plausible|valid|verified"
    r"|confirmed|clear|obvious|unique|as follows)"
    r"(?:$|,|\s+(?:because|since|as|with|and|when|by)\b)",
    re.IGNORECASE,
)
_EITHER = re.compile(r"\bor\b[^.?!\n]{0,30}$", re.IGNORECASE)
_END = re.compile(r"[.!?。！？](?=[\s\"'”’)*_]|$)|\n|;|。")
_DENIED = re.compile(r"\bnot\b|n['’]t\b|\bcannot\b|\bnever\b", re.IGNORECASE)
_HEAD = re.compile(
    r"^[ \t]*(?:#{1,6}[ \t]+|>[ \t]?|[*•][ \t]+|[-+][ \t]+(?=[A-Za-z*]))", re.MULTILINE
)
_EMPHASIS = re.compile(
    r"</?(?:b|i|u|p|em|strong|br)\s*/?>|(?<![\w)])\*\*|\*\*(?![\w(])|(?<!\w)__|__(?!\w)|`|(?<![^\s(])\*(?=[A-Za-z])"
    r"|(?<=[A-Za-z.])\*(?![^\s,.)!?:])"
)


class Place(Enum):
    MARKED = "marked"  # one value as a whole, or none
    SENTENCE = "sentence"  # the text after "the answer is"
    PROSE = "prose"  # the whole answer


@dataclass(frozen=True, slots=True)
class Statement:
    """A part of an answer that states a result, such as a box or "the answer is ...".

    `after`: the rest of the answer, after the statement's sentence.
    """

    place: Place
    text: str
    after: str = ""


def stated(text: str) -> Sequence[Statement]:
    """Returns the statement that counts; several if adjacent, none if a box is empty."""
    text = text[-MOST_CHARACTERS:]
    if "</think>" in text:
        text = text.rpartition("</think>")[2]
    tagged = find_marked(Parser.ANSWER_TAG, text)
    within = text if tagged is None else tagged
    if boxed := boxes(within):
        return [Statement(Place.MARKED, inner) for inner in boxed]
    if marks := _HASHES.findall(within):
        return [Statement(Place.MARKED, marks[-1])]
    said = _statements(within)
    if said:
        return said
    return [Statement(Place.MARKED if tagged is not None else Place.PROSE, within)]


def unmarked(text: str) -> str:
    """Removes the emphasis, headings and quotes of Markdown."""
    return _EMPHASIS.sub("", _HEAD.sub("", text))


def _statements(text: str) -> Sequence[Statement]:
    """Returns the last statement and those directly before it."""
    text = unmarked(text)
    leads = list(_LEAD.finditer(text))
    found_here: list[tuple[int, int, Statement]] = []
    for i, lead in enumerate(leads):
        limit = leads[i + 1].start() if i + 1 < len(leads) else len(text)
        rest = text[lead.end() : limit]
        end = _END.search(rest)
        if end is None and i + 1 < len(leads) and _only_leads(rest):
            continue
        if end is not None and end[0] in "?？":
            continue  # a question states nothing
        sentence = rest[: end.start()] if end else rest
        after = rest[end.end() :] if end else ""
        if _DENIED.search(lead[0]):
            sentence = f"not {sentence}"
        place = lead.end() + (end.end() if end else len(rest))
        found_here.append((lead.start(), place, Statement(Place.SENTENCE, sentence.strip(), after)))
    return _together(text, found_here)


def _only_leads(text: str) -> bool:
    """Returns whether text between two leads states nothing: `Answer: The final answer is 5`."""
    if _EITHER.search(text):
        return False
    return not _VALUE.match(text) or bool(_CONCLUDES.search(text))


def _together(text: str, found_here: Sequence[tuple[int, int, Statement]]) -> Sequence[Statement]:
    found_here = [one for one in found_here if not _REMARK.match(one[2].text)] or found_here
    if not found_here:
        return []
    kept = [found_here[-1]]
    for one in reversed(found_here[:-1]):
        if text[one[1] : kept[0][0]].strip(" \t\n.,;:*-") or not one[2].text:
            break
        kept.insert(0, one)
    return [one[2] for one in kept]
