r"""Splits text into the tokens of amounts, after removal of LaTeX and Markdown marks."""

import re
import unicodedata
from dataclasses import dataclass

_DECIMAL = (
    r"(?:\d{1,3}(?:,\d{3})+(?!\d|,\d)|\d{1,3}(?:'\d{3})+(?!\d)|\d{1,3}(?:_\d{3})+(?!\d)"
    r"|\d{1,2}(?:,\d{2})+,\d{3}(?!\d|,\d)|\d+(?!\d|,\d))(?:\.\d+)?(?:[eE][-+]?\d{1,6}(?![\w.]))?"
    r"|\.\d+(?:[eE][-+]?\d{1,6}(?![\w.]))?"
)
_TOKEN = re.compile(
    rf"""
    (?P<space>\s+)
    | (?P<opaque>\d+(?::\d+)+ | \d{{4}}-\d\d?-\d\d?(?!\d) | \d\d?/\d\d?/\d{{4}}(?!\d)
        | \d+\.\d+(?:\.\d+)+ | \d+(?:\.\d+)?(?:\.\.\.|…))
    | (?P<number>{_DECIMAL})
    | (?P<digits>\d+(?:,\d+)*(?:\.\d+)?)
    | (?P<command>\\[A-Za-z]+)
    | (?P<word>[^\W\d_]+(?:['’-][^\W\d_]+)*)
    | (?P<operator>\*\*|[-+*/^!×÷·(){{}}\[\]=])
    | (?P<sign>[%$€£°¢])
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_WRAPPER = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|boldsymbol|mbox)\s*\{([^{}]*)\}"
)
_DELIMITED = re.compile(r"\$\$|\\[()\[\]]|\$(?=[^$\n]{1,300}(?<!\s)\$(?!\d))([^$\n]{1,300})\$")
_DROPPED = re.compile(
    r"\\(?:left|right|displaystyle|dfrac(?![a-z])|tfrac(?![a-z])|!)|`|\*\*(?=\W|$)|(?<!\w)\*\*"
)
_GAP = re.compile(r"\\[,;: ]|~|\\quad\b")
_NEGATIVE = re.compile(
    r"(?:\bnegative|(?:^|(?<=\bis )|(?<=[=:] ))minus) (?=[\d.])", re.IGNORECASE | re.MULTILINE
)
_STATES = re.compile(r"\bUS(?=\$)")
_SPACED = re.compile(r"(?<![\d.,/])\d{1,3}(?: \d{3})+(?P<more>[\d/])?")
_VULGAR = re.compile(r"(?<=\d)(?=[\u00bc-\u00be\u2150-\u215e])")
_RAISED = re.compile(r"[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207a\u207b]+")
_SIGNS = str.maketrans("−–—⁄’", "---/'")
VARIABLE = re.compile(r"[a-zA-Z\u0370-\u03ff]")


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    spaced: bool  # whether space precedes it
    start: int = 0  # offset in the text

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def plain(text: str) -> str:
    """Returns text without LaTeX and Markdown marks, with normalised characters."""
    text = _RAISED.sub(lambda raised: f"^{raised[0]}", _VULGAR.sub(" ", text))
    text = unicodedata.normalize("NFKC", text).translate(_SIGNS)
    text = _STATES.sub("", text.replace("US\\$", "US$"))
    text = text.replace("\\$", "$ " if text.rstrip().endswith("\\$") else "$")
    text = text.replace("\\%", "%").replace("{,}", ",").replace("^\\circ", "°")
    text = text.replace("^{\\circ}", "°")
    text = _DELIMITED.sub(lambda inner: f" {inner[1] or ''} ", text)
    text = _WRAPPER.sub(r" \1 ", text)
    text = _DROPPED.sub(lambda one: "\\frac" if "frac" in one[0] else "", text)
    text = _GAP.sub(" ", text)
    text = _NEGATIVE.sub("-", re.sub(r"[^\S\n]+", " ", text))
    return _SPACED.sub(_closed, text)


def _closed(spaced: re.Match[str]) -> str:
    return spaced[0] if spaced["more"] else spaced[0].replace(" ", "")


def tokens_of(text: str) -> list[Token]:
    found, spaced = [], True
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "other"
        kind = "opaque" if kind == "digits" else kind  # commas that do not group thousands
        if kind != "space":
            found.append(Token(kind, match[0], spaced, match.start()))
        spaced = kind == "space"
    return found


def is_variable(token: Token) -> bool:
    return (
        token.kind == "word"
        and bool(VARIABLE.fullmatch(token.text))
        and token.text not in ("a", "I", "A")
    )
