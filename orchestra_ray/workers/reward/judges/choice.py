r"""Grader of multiple choice: reads the letter stated by an answer, or the text of a choice.

    answer    := tagged | boxed | statement | opening | closing
    statement := ("answer is" | "answer:" | "I choose" | "so it is" | "option" ...) named
               | letter ("is" ["the"] ("correct" | "right" | "answer" ...))
    opening   := letter (")" | "." | ":" | "-" | "," | "(") [text]     at the start of the answer;
                 if lines list the options, only a letter out of their order
    closing   := "(" letter ")"                      the only undenied letter in brackets
    named     := letter | letter text | text of a choice

A mention is no statement: denials ("D is wrong", "not D", "I ruled out A") and questions ("is it
B?") are ignored, and a capital at the start of a sentence ("A good one", "I am not sure") is a
word. Two joined letters ("A or C", "B, C") count as none. The last of several statements counts,
unless adjacent statements differ.
"""

import re
import string
import unicodedata
from collections.abc import Sequence

from orchestra_ray.workers.reward.judges.exact import normal
from orchestra_ray.workers.reward.judges.statement import Place, stated, unmarked

_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|boldsymbol|mbox|boxed)\s*\{([^{}]*)\}"
)
_MATH = re.compile(r"\$|\\[()\[\]]|\\[,;:! ]")
_QUOTES = "\"'“”‘’«»「」*_`{}<> "
_LETTER = r"(?:\((?P<round>[A-Za-z])\)|\[(?P<square>[A-Za-z])\]|(?P<bare>[A-Za-z])(?!\w|['’]\w))"
_SURELY = (
    r"(?:(?:definitely|clearly|probably|likely|surely|certainly|most\s+likely|therefore|simply|just"
    r"|indeed|obviously|thus|really|actually|option|choice|letter|number)\b,?\s+)*"
)
_NAMED = re.compile(
    rf"{_SURELY}(?:(?:the\s+)?(?:(?:correct|right|best)\s+)?(?:option|choice|letter|answer)\s+)?"
    rf"[{_QUOTES}]*{_LETTER}[{_QUOTES}]*",
    re.IGNORECASE,
)
# Text that may follow a bare letter which could also be a word ("A dog", "I am").
_FOLLOWS = re.compile(
    r"\s*(?:$|[.,;:!?)\]}(—–-]|(?:because|since|as|for|so|rather|instead|and\s+not|but\s+not|not"
    r"|which|due|given|based|where|with|is|from|by|per|in\s+my|here|above|below)\b)",
    re.IGNORECASE,
)
_ENDS_TEXT = re.compile(
    rf"[{_QUOTES}]*(?:$|[.,;!?(—–]|(?:because|since|as|so|rather|and\s+not|not)\b)"
)
_NEGATED = re.compile(r"[\s:=]*(?:definitely\s+|clearly\s+)?not\b", re.IGNORECASE)
_INSTEAD = re.compile(r"\bbut(?:\s+rather)?\b|,|;|\brather\b")
MOST_FOLDED, MOST_DENIED = 60, 20
_AND_ANOTHER = re.compile(
    rf"\s*(?:,|/|&|\+|;|(?:,\s*)?\b(?:or|and(?:\s+also)?|as\s+well\s+as)\b)\s*(?:also\s+|maybe\s+"
    rf"|possibly\s+|perhaps\s+)?(?:(?:option|choice)\s+)?[{_QUOTES}]*"
    r"(?:\([A-Za-z]\)|\[[A-Za-z]\]|[A-HJ-Z](?![\w'’]))",
)
_COMMITS = re.compile(
    r"(?:\b(?:i\s+(?:would\s+|will\s+|'d\s+)?|i['’]d\s+|we\s+|let\s+me\s+|let['’]s\s+)?"
    r"(?:choose|pick|select|go(?:ing)?\s+with|chose|picked|selected|guess|say)\b"
    r"|\b(?:so|has\s+to\s+be|i\s+think|i\s+believe|should\s+be|would\s+be|thus|hence|therefore|must\s+be|it\s+is|it['’]s|this\s+is|that\s+is)\b,?"
    r"(?:\s+(?:it\s+is|it\s+must\s+be|it['’]s|clearly|definitely))?"
    r"|\b(?:correct|right|best)\s+(?:option|choice|one|letter)\s+(?:is|must\s+be|would\s+be)\b"
    r"|\b(?:option|choice)\s*(?:is\b|must\s+be\b|would\s+be\b|[:=])?)\s*[:=]?\s*",
    re.IGNORECASE,
)
_REVERSED = re.compile(
    rf"(?<![\w'’]){_LETTER}\s+(?:is|must\s+be|would\s+be|looks|seems)\s+(?:clearly\s+|definitely\s+)?"
    r"(?:the\s+|my\s+)?(?:only\s+|final\s+)?(?:correct|right|true|best|answer|choice|pick)\b"
)
_DENIED_BEFORE = re.compile(
    r"(?:\bnot|n['’]t|\bnever|\bnor|\bneither|\brather\s+than|\binstead\s+of|\bunlike|\bexcept"
    r"|\b(?:rul|eliminat|exclud|reject|discard|dismiss)\w*(?:\s+out)?)"
    r"(?:\s+(?:be|is|it|out|the|a|option|choice|answer|options|choices|just|simply)\b)*[\s:(\[]*$",
    re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"[)\]\s]*(?:(?:is|are|was|looks|seems|would\s+be|can\s+be|must\s+be|cannot|can['’]t)\s+"
    r"(?:\w+\s+)?)?(?:incorrect|wrong|false|not|ruled\s+out|eliminated|excluded|unlikely|impossible"
    r"|out\b|be\s+(?:right|correct|ruled|eliminated))|\s*(?:isn['’]t|doesn['’]t|does\s+not|cannot)\b",
    re.IGNORECASE,
)
_VERB = re.compile(r"\s*(?:is|with|for)\b")
# `D. argon` at the start of a line is not the sentence `D.`
_SENTENCES = re.compile(r"(?<=[.!?。])(?<!^[A-Za-z]\.)(?<!^ [A-Za-z]\.)\s+|\n", re.MULTILINE)
_OPENING = re.compile(
    rf"[{_QUOTES}]*{_LETTER}[{_QUOTES}]*(?P<mark>\s*(?:[):,(—–-]|\.(?![A-Za-z]\.))|\s*$|(?<=[)\]]))"
)
_ALONE = re.compile(rf"[{_QUOTES}]*{_LETTER}[{_QUOTES}]*[.!]*")
_IN_BRACKETS = re.compile(r"[(\[]([A-Z])[)\]]")


def is_choice(reference: str, answer: str, choices: Sequence[str] = ()) -> bool:
    """Returns whether both name the same choice; without `choices`, only by letter."""
    right = letter_of(reference, choices)
    return right is not None and letter_of(answer, choices) == right


def letter_of(text: str, choices: Sequence[str] = ()) -> str | None:
    """Returns the capital letter stated by an answer; None if it states none or several."""
    letters = {_letter(one.place, one.text, choices) for one in stated(_plain(text))}
    letter = letters.pop() if len(letters) == 1 else None
    known = string.ascii_uppercase[: len(choices) or None]
    return letter if letter and letter in known else None


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text)
    return re.sub(r"[^\S\n]+", " ", text)


def _bare(text: str) -> str:
    """Returns the text without LaTeX, with single spaces between words."""
    for _ in range(3):
        text = _WRAPPER.sub(r"\1", text)
    return " ".join(unmarked(_MATH.sub("", text)).split())


def _letter(place: Place, text: str, choices: Sequence[str]) -> str | None:
    bare = _bare(text)
    if (letter := _by_text(bare, choices)) is not None:
        return letter
    if place is Place.MARKED:
        inner = stated(text)
        if inner[-1].place is Place.SENTENCE:
            return _named(_bare(inner[-1].text), choices)
        return _named(bare, choices) or _opening(bare, choices)
    if place is Place.SENTENCE:
        return _named(bare, choices)
    text = unmarked(_MATH.sub("", text))
    lines = [line for line in map(str.strip, text.split("\n")) if _OPENING.match(line)]
    letters = _opened(lines, choices)
    if len(set(letters)) > 1:
        return _said(text, choices) or _apart(letters)
    last = _opening(lines[-1], choices) if lines else None
    return _opening(bare, choices) or _said(text, choices) or last


def _opened(lines: Sequence[str], choices: Sequence[str]) -> list[str]:
    """Returns the letters at the start of lines, whether affirmed or denied there."""
    opened = (_OPENING.match(line) for line in lines)
    letters = [(one["round"] or one["square"] or one["bare"]).upper() for one in opened if one]
    known = string.ascii_uppercase[: len(choices) or None]
    return [letter for letter in letters if letter in known]


def _apart(letters: Sequence[str]) -> str | None:
    """Returns the letter before or after a list of the options, if out of its order."""
    before, behind = letters[0] >= letters[1], letters[-1] <= letters[-2]
    first = letters[0] if before and _ascends(letters[1:]) else None
    last = letters[-1] if behind and _ascends(letters[:-1]) else None
    return None if first and last else first or last


def _ascends(letters: Sequence[str]) -> bool:
    return list(letters) == sorted(set(letters))


def _by_text(bare: str, choices: Sequence[str]) -> str | None:
    said = _folded(bare)
    alike = [i for i, choice in enumerate(choices) if _folded(_bare(choice)) == said]
    return string.ascii_uppercase[alike[0]] if said and len(alike) == 1 else None


def _folded(text: str) -> str:
    return normal(text).strip(" .!,;:" + _QUOTES)


def _named(text: str, choices: Sequence[str]) -> str | None:
    """Returns the letter after the lead of a statement, or the choice whose text it is."""
    text = text.lstrip(" :=")
    if (letter := _by_text(text, choices)) is not None:
        return letter
    if _NEGATED.match(text):
        return _corrected(text, choices)
    if (letter := _by_opening_text(text, choices)) is not None:
        return letter
    match = _NAMED.match(text)
    return None if match is None else _checked(match, text, choices)


def _corrected(text: str, choices: Sequence[str]) -> str | None:
    """Returns the replacement of a denied choice, as in `not C, but D`."""
    for _ in range(MOST_DENIED):
        behind = _INSTEAD.split(text, maxsplit=1)
        if len(behind) < 2:
            return None
        text = re.sub(r"^\s*(?:but|rather)\s+", "", behind[1].strip())
        if not _NEGATED.match(text):
            return _named(text, choices) or _said(text, choices)
    return None


def _by_opening_text(text: str, choices: Sequence[str]) -> str | None:
    """Returns the choice whose text a statement starts with, if the statement ends there."""
    low = normal(text.lstrip(_QUOTES)[: MOST_FOLDED + max(map(len, choices), default=0)])
    begun = [
        (len(folded), string.ascii_uppercase[i])
        for i, choice in enumerate(choices)
        if (folded := _folded(_bare(choice)))
        and low.startswith(folded)
        and _ENDS_TEXT.match(low[len(folded) :])
    ]
    longest = max(begun)[0] if begun else 0
    letters = [letter for length, letter in begun if length == longest]
    return letters[0] if len(letters) == 1 else None


def _checked(match: re.Match[str], text: str, choices: Sequence[str]) -> str | None:
    """Returns the letter of a match unless the rest denies it, lists more or makes it a word."""
    rest = text[match.end() :]
    if _lists(rest) or _DENIED_AFTER.match(rest):
        return None
    bare = match["bare"]
    letter = (match["round"] or match["square"] or bare).upper()
    place = string.ascii_uppercase.index(letter)
    if bare is None or not rest.strip(" .!,;:"):
        return letter
    if place < len(choices) and _folded(rest).startswith(_folded(_bare(choices[place]))):
        return letter
    if not _FOLLOWS.match(rest):
        return letter if bare.isupper() and bare not in "AI" else None
    return None if bare == "I" and _VERB.match(rest) else letter


def _lists(rest: str) -> bool:
    """Returns whether another, undenied letter follows."""
    another = _AND_ANOTHER.match(rest)
    return another is not None and not _DENIED_AFTER.match(rest, another.end())


def _opening(bare: str, choices: Sequence[str]) -> str | None:
    """Returns a letter at the start, delimited by a mark: `C`, `c) argon`, `C, argon`."""
    match = _OPENING.match(bare)
    if match is None:
        begun = re.match(rf"{_LETTER}\s+(?:because|since)\b", bare)
        return begun["bare"].upper() if begun and begun["bare"] else _by_opening_text(bare, choices)
    rest = bare[match.end() :]
    letter = (match["round"] or match["square"] or match["bare"]).upper()
    if not rest.strip(" ."):
        return letter
    if _lists(bare[match.start("mark") :]) or _DENIED_AFTER.match(rest) or _lists(rest):
        return None
    mark = match["mark"].strip()
    place = string.ascii_uppercase.index(letter)
    has_text = place < len(choices) and _folded(rest).startswith(_folded(choices[place]))
    if mark in (")", ".", ":") or not match["bare"] or has_text:
        return letter
    return letter if match["bare"].isupper() and letter not in "AI" else None


def _said(text: str, choices: Sequence[str]) -> str | None:
    """Returns the last letter that a sentence of prose commits to."""
    last: str | None = None
    reach = 100 + max((len(choice) for choice in choices), default=0)
    for sentence in _SENTENCES.split(text):
        sentence = " ".join(sentence.split())
        if sentence.endswith("?"):
            continue
        if (alone := _ALONE.fullmatch(sentence)) and (letter := _named(alone[0], choices)):
            last = letter
        for match in _REVERSED.finditer(sentence):
            if not _DENIED_BEFORE.search(sentence[: match.start()][-60:]):
                last = (match["round"] or match["square"] or match["bare"]).upper()
        for lead in _COMMITS.finditer(sentence):
            if _DENIED_BEFORE.search(sentence[: lead.start()][-60:] + " "):
                continue
            if letter := _named(sentence[lead.end() :][:reach], choices):
                last = letter
    if last is not None:
        return last
    return _closing(text)


def _closing(text: str) -> str | None:
    named = {
        match[1]
        for match in _IN_BRACKETS.finditer(text)
        if not _DENIED_BEFORE.search(text[: match.start()][-60:])
        and not _DENIED_AFTER.match(text[match.end() : match.end() + 60])
    }
    return named.pop() if len(named) == 1 else None
