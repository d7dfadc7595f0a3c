r"""Normalises informal mathematics to LaTeX that math-verify's grammar reads as a whole.

The grammar drops units and other text, sums adjacent numbers and reads words as products of
letters. Texts that are not expressions are therefore rejected here (`None`): words other than
units, adjacent numbers, times of day. Plain notation is rewritten: sqrt(2), 2^10, pi, 1 1/2, 1.5e3.
"""

import re
import unicodedata

from orchestra_ray.workers.reward.judges.units import UNITS

MOST_CHARACTERS = 2_000
_RAISED = re.compile(r"[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207a\u207b]+")
_LOWERED = re.compile(r"[\u2080-\u2089]+")
_VULGAR = re.compile(r"(\d*)([\u00bc-\u00be\u2150-\u215e])")
_SYMBOLS = {
    **{"−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div "},
    **{"π": r"\pi ", "∞": r"\infty ", "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "°": r"^\circ "},
    **{"∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "√": r"\sqrt ", "±": r"\pm ", "θ": r"\theta "},
    **{"α": r"\alpha ", "β": r"\beta ", "ℝ": r"\mathbb{R}", "∅": r"\emptyset ", "λ": r"\lambda "},
    **{"**": "^", "<=": r"\leq ", ">=": r"\geq ", "!=": r"\neq ", r"\varnothing": r"\emptyset "},
    **{r"\left": "", r"\right": "", r"\displaystyle": "", r"\dfrac": r"\frac", r"\tfrac": r"\frac"},
    **{r"\!": "", r"\,": " ", r"\;": " ", r"\:": " ", r"\ ": " ", r"\quad": " ", r"\qquad": " "},
    **{"~": " ", "{,}": ",", r"\$": "", "$": "", r"\(": "", r"\)": "", r"\[": "", r"\]": ""},
    **{r"\cr": r"\\"},
}
_SYMBOL = re.compile(
    r"\\\\|\\(?:left|right)(?![a-z])(?:\\(?=[{}]))?|"
    + "|".join(
        re.escape(one) + ("(?![A-Za-z])" if one[-1].isalpha() and one[0] == "\\" else "")
        for one in sorted(_SYMBOLS, key=len, reverse=True)
    )
)
_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|mbox|mathrm|mathbf|mathit|boldsymbol|operatorname)\s*\{([^{}]*)\}"
    r"(?P<power>\s*\^\s*(?:\{\s*[23]\s*\}|[23]))?"
)
_CONSTANT = re.compile(r"\\(?:math(?:rm|bf|it)|boldsymbol)\s*\{\s*([a-zA-Z])\s*\}")
_NUMERAL = re.compile(
    r"\\(?:math(?:rm|bf|it)|boldsymbol|text(?:bf|it|rm)?|mbox)\s*\{\s*(-?\d[\d.,]*)\s*\}"
)
_UNIT_WORDS = UNITS.keys() | {
    *("square", "cubic", "sq", "cu", "units", "unit", "per", "percent", "square units", "mph"),
    *("kmh", "km/h", "m/s", "people", "ways", "minutes", "points", "integers", "times", "edges"),
}
_NO_UNITS = re.compile(
    r"\b(?:or|and|more|less|least|most|fewer|not|no|none|if|for|when|where|to|is|are|only|all|than"
    r"|through|mod|choose|base|infinite|undefined|above|below|over|any|every|some|but|except)\b",
    re.IGNORECASE,
)
_FUNCTION = re.compile(
    r"(?<![\\A-Za-z])(sqrt|arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln|log|exp|pi"
    r"|theta|alpha|beta|infty|cdot|times|cup|frac)(?![A-Za-z])"
)
_UNIT_TAIL = re.compile(
    r"(?<=[\d.})!])\s*(?P<unit>(?:square|cubic|sq\.?)?\s*[A-Za-z]{2,}(?:\s*/\s*[A-Za-z]+)?"
    r"(?:\s+per\s+[A-Za-z]+)?|[msgh])(?:\s*\^\s*(?:\{\s*[23]\s*\}|[23]))?\s*$"
)
_IN_A_ROW = re.compile(r"(?<![\d_])(?:\d+|\d*\.\d+)\s+\.?\d")
_DOTS = re.compile(r"\.\.|…|\\[lc]?dots")
_BARE_FRAC = re.compile(r"\\frac\s*(\d)\s*(\d)(?!\d)")
_MIXED = re.compile(r"(?<![\d./}])(-?)(\d{1,9})\s+(\d{1,9})\s*/\s*(\d{1,9})(?![\d./])")
_MIXED_FRAC = re.compile(
    r"(?<![\d.}])(\d{1,9})\s*\\frac\s*(?:\{(\d{1,9})\}\s*\{(\d{1,9})\}|(\d)\s*(\d)(?!\d))"
)
_GROUPS = re.compile(r"(?<![\d.,])\d{1,3}(?:[ ']\d{3})+(?![\d/])")
_E = re.compile(r"(?<![A-Za-z\d.])(\d+(?:\.\d+)?)[eE]([-+]?\d{1,4})(?![\w.])")
_BASE = re.compile(r"(?<![\w.}])(\d+)_\{?(\d{1,2})\}?(?!\w)")
_REPEATING = re.compile(r"(?<![\d.])(\d*)\.(\d*)\\(?:overline|bar)\s*\{?(\d{1,20})\}?")
_TIME = re.compile(r"\d+\s*:\s*\d\d(?!\d)")
_BRACKET = re.compile(r"\\sqrt\s*\(|[()]")
_POWER = re.compile(r"\^\s*\(([^()]*)\)")


def latex(text: str) -> str | None:
    """Returns an expression in LaTeX, or None if the text is not one."""
    if len(text) > MOST_CHARACTERS or not text.strip():
        return None
    read = _worded(_constants(_plain(text)))
    if read is None:
        return None
    text = _functions(read)
    text = text.strip(" \n")
    while text and text[-1] in ".,;:" and not text.endswith("..") and not text.endswith("\\\\"):
        text = text[:-1].rstrip()
    text = re.sub(r"^\s*(?:\\approx|≈|=|:)\s*", "", text)
    text = re.split(r"\\approx|≈", text)[0]
    found = _numbers(_strip_unit(text))
    if found is None or _TIME.search(found) or _IN_A_ROW.search(found) or _DOTS.search(found):
        return None
    return found or None


def _plain(text: str) -> str:
    text = _RAISED.sub(lambda one: "^{" + unicodedata.normalize("NFKC", one[0]) + "}", text)
    text = _LOWERED.sub(lambda one: "_{" + unicodedata.normalize("NFKC", one[0]) + "}", text)
    text = _VULGAR.sub(_vulgar, text)
    text = unicodedata.normalize("NFKC", text)

    def symbol(match: re.Match[str]) -> str:
        if match[0].startswith(("\\left", "\\right")):
            return "\\" if match[0].endswith("\\") else ""
        return _SYMBOLS.get(match[0], match[0])

    text = _SYMBOL.sub(symbol, text)
    return re.sub(r"\s+", " ", text)


def _vulgar(match: re.Match[str]) -> str:
    above, _, below = unicodedata.normalize("NFKC", match[2]).partition("⁄")
    return f"{match[1]}\\frac{{{above}}}{{{below}}}"


def _constants(text: str) -> str:
    return _NUMERAL.sub(r" \1 ", _CONSTANT.sub(r" \1 ", text))


def _worded(text: str) -> str | None:
    """Keeps words that join elements and drops units; returns None for any other text."""
    rejected = False

    def read(match: re.Match[str]) -> str:
        nonlocal rejected
        words = match[1].strip().lower().strip(".")
        before, after = text[: match.start()].rstrip(), text[match.end() :].lstrip()
        if words.strip(" ,") in ("or", "and", ""):
            return " , " if before and after and before[-1] != "," else " "
        if words in ("i", "e", "x", "y", "n"):
            return match[1] + (match["power"] or "")
        if words in ("sin", "cos", "tan", "log", "ln", "lcm", "gcd", "max", "min") and after:
            return f"\\{words} "
        if not before and not after:
            return match[0]
        is_amount = bool(before) and (before[-1] in "0123456789})!c" or before.endswith("\\pi"))
        if _NO_UNITS.search(words) or not is_amount:
            rejected = True
        return " "

    text = _TEXT.sub(read, text)
    return None if rejected else text


def _functions(text: str) -> str:
    text = _FUNCTION.sub(lambda one: f"\\{one[1]} ", text)
    text = re.sub(r"(?<=[\s,])(?:or|and)(?=\s)", ",", text)
    text = re.sub(r",(?:\s*,)+", ",", text)
    return _POWER.sub(r"^{\1}", _brackets(text))


def _brackets(text: str) -> str:
    r"""Rewrites `\sqrt(...)` to `\sqrt{...}` if the bracket is closed."""
    characters = list(text)
    opened: list[re.Match[str]] = []
    for one in _BRACKET.finditer(text):
        if one[0] != ")":
            opened.append(one)
        elif opened and (root := opened.pop())[0] != "(":
            characters[root.start() : root.end()] = [r"\sqrt{", *[""] * (len(root[0]) - 1)]
            characters[one.start()] = "}"
    return "".join(characters)


def _strip_unit(text: str) -> str:
    """Removes a unit in plain letters after a number, and degrees."""
    text = re.sub(r"\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ)\s*[CF]?\s*$", "", text)
    match = _UNIT_TAIL.search(text)
    if match and not _NO_UNITS.search(match["unit"]) and "\\" not in match["unit"]:
        words = re.split(r"[\s/]+", match["unit"].lower())
        plain_noun = (
            len(words) == 1
            and len(words[0]) > 3
            and re.fullmatch(r"[\d.,\s-]+", text[: match.start()])
        )
        if plain_noun or all(word in _UNIT_WORDS for word in words if word):
            return text[: match.start()].rstrip()
    return text


def _numbers(text: str) -> str | None:
    text = _GROUPS.sub(lambda one: re.sub(r"[ ']", "", one[0]), text)
    text = _E.sub(r"\1 \\times 10^{\2}", text)
    text = _MIXED.sub(r"\1(\2+\\frac{\3}{\4})", text)
    text = _MIXED_FRAC.sub(lambda m: f"({m[1]}+\\frac{{{m[2] or m[4]}}}{{{m[3] or m[5]}}})", text)
    text = _BARE_FRAC.sub(r"\\frac{\1}{\2}", text)
    text = _REPEATING.sub(_repeating, text)
    try:
        return _BASE.sub(lambda one: str(int(one[1], int(one[2]))), text)
    except ValueError:
        return None


def _repeating(match: re.Match[str]) -> str:
    whole_part, fixed, cycle = match[1] or "0", match[2], match[3]
    scale = 10 ** len(fixed)
    nines = 10 ** len(cycle) - 1
    above = int(whole_part + fixed) * nines + int(cycle)
    return f"\\frac{{{above}}}{{{scale * nines}}}"
