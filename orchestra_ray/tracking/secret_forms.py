"""Forms of secrets that are recognised in any text, independently of the environment.

Tokens of known providers, JWTs, private keys, URLs with a password, values of an `Authorization`
header, and values assigned to the name of a key. If only the prefix of a form is known, ordinary
names can have it too (`jina_embeddings_v2_base_en`), so the rest must be random. Every repetition
in a pattern is bounded, so the cost is linear in the text.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from orchestra_ray.tracking.randomness import is_word
from orchestra_ray.tracking.secret_names import words_of

MARK = "[redacted]"
_MIN_MADE_CHARS = 10  # in a token, outside words and numbers
_NAME_CHARS = 5  # `fp8`, `sm90a`, `a10g`: too short to tell

_GITLAB = r"gl(?:pat|dt|rt|rtr|ptt|ft|soat|cbt|imt|agent|oas)"
_SHAPED = (
    rf"{_GITLAB}-(?=[\w.-]*[A-Z])(?=[\w.-]*\d)[\w.-]{{20,}}",
    r"xox[a-z](?:\.xox[a-z])?-\d[\w-]{9,}|xapp-\d-[A-Z0-9]{4,}-\d+-\w{6,}",  # Slack
    r"A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}(?![A-Z0-9])",  # AWS
    r"AGE-SECRET-KEY-1[A-Z0-9]{20,}|hv[sbr]\.CAES[\w-]{20,}|ntn_\d{10,}[A-Za-z0-9]{20,}",
    r"dapi[a-f0-9]{32}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{20,}|do[opr]_v1_[a-f0-9]{20,}",
    r"PMAK-[a-f0-9]{20}[a-f0-9-]*|rubygems_[a-f0-9]{20,}|sbp_[a-f0-9]{20,}|e2b_[a-f0-9]{20,}",
    r"SK[a-f0-9]{32}|sk_[a-f0-9]{32,}|(?<!_)key-[a-f0-9]{32}",
    r"eyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]{4,}){1,3}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.?",  # JWT, JWE
)
_BEGUN = (
    r"sk-[\w-]{16,}",  # OpenAI, Anthropic, OpenRouter
    r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[\w+/=]{16,}",  # Stripe
    r"gh[opsru]_\w{20,}(?:\.[\w-]{8,}){0,2}|github_pat_\w{20,}",
    rf"{_GITLAB}-[\w.-]{{16,}}",
    r"hf_[A-Za-z0-9]{30,}|hf_oauth_[\w.-]{20,}|api_org_[A-Za-z0-9]{30,}",
    r"xoxd-[\w%+/=-]{20,}|AIza[\w-]{30,}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{16,}",  # Slack, Google
    r"tvly-[\w-]{16,}|nvapi-[\w-]{20,}|gsk_[A-Za-z0-9]{20,}|xai-[A-Za-z0-9]{20,}",
    r"pplx-[A-Za-z0-9]{20,}|r8_[A-Za-z0-9]{20,}|wandb_v1_\w{20,}|hv[sbr]\.[\w-]{20,}",
    r"lin_(?:api|oauth)_\w{20,}|pcsk_\w{20,}|tskey-[\w-]{16,}|dckr_(?:pat|oat)_[\w-]{20,}",
    r"sq0[a-z]{3}-[\w-]{20,}|EAAC[A-Za-z0-9]{20,}|ATATT3[\w=-]{20,}|gl(?:c|sa)_[\w+/=]{20,}",
    r"figd_[\w-]{20,}|rpa_[A-Za-z0-9]{20,}|jina_[A-Za-z0-9]{20,}[\w-]*|fw_[A-Za-z0-9]{20,}",
    r"csk-[a-z0-9]{20,}|phx_[A-Za-z0-9]{20,}|npm_[A-Za-z0-9]{30,}|pypi-[\w-]{32,}",
    r"SG\.[\w-]{16,}\.[\w-]{16,}|lsv2_[a-z]{2}_\w{20,}",
)
# A cheap test of each word before the alternatives: its first letter and its length.
_FIRST = r"(?=[AEGPSacdefghjklnprstwxy][\w.+/=-]{12})"
_TOKEN = rf"(?:{'|'.join(_SHAPED)}|(?P<begun>{'|'.join(_BEGUN)}))"
# In JSON, URLs and coloured text a word can begin behind the letter of an escape.
_ESCAPE = r"[\\%\d](?:(?<=\\)(?:[nrt]|u00[0-9a-f]{2})|(?<=%)[0-9A-F]{2}|(?<=\d)m)"
# A password can contain characters that a URL cannot: it extends to the last @ before a space or a
# quote, and over a few spaces. Text behind a port or an IPv6 address is none.
_USERINFO = (
    r"(?<=://)(?!\[[0-9a-fA-F:.]+\])(?:"
    r"[^\s/@:\"'<>`]{0,128}:(?!\d{1,5}[/?#])[^\s\"'<>`]{0,256}"
    r"|(?=[^\s/@:\d]{0,256}\d)[^\s/@:\"'<>`]{16,256}"
    r"|[^\s/@:\"'<>`]{0,128}:(?!\d{1,5}\b)[^\s\"'<>`][^\"'<>`\n@]{0,64}"
    r")(?:@(?!sha256:)|%40)"
)


_LINE_END = r"(?:\s|\\[nr])+"
_BASE64_LINE = r"(?=[A-Za-z0-9+/=]{16}|[A-Za-z+/]*[\d=])[A-Za-z0-9+/=]{1,100}(?=[\s\\\"']|$)"


@dataclass(frozen=True, slots=True)
class _Form:
    """A pattern of secrets. hints: the pattern is only searched if the text has one of them."""

    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str] = MARK

    def hide(self, text: str) -> str:
        if self.hints and not any(hint in text for hint in self.hints):
            return text
        return self.pattern.sub(self.replacement, text)


_IS = r"[\\\"']{0,3}\s{0,9}[:=,]\s{0,9}b?[\\\"']{0,3}"  # between a name and its value
# The qualifiers in names of a key, a token or a secret, looked for behind its first letter.
_OF_SECRET = "|".join(
    rf"(?<={whose}.)|(?<={whose}[_-].)"
    for whose in "api access account auth client private refresh secret".split()
)
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-"


def _token_hidden(match: re.Match[str]) -> str:
    is_name = match["begun"] and not _is_made(match["begun"])
    return match[0] if is_name else match["before"] + MARK


def _made_hidden(match: re.Match[str]) -> str:
    """Hides the random words of the second group; the first group introduces them."""
    words = re.sub(r"\S+", lambda word: MARK if _is_made(word[0]) else word[0], match[2])
    return match[1] + words


def _is_made(token: str) -> bool:
    runs = re.findall("[A-Za-z0-9]+", token)
    return sum(len(run) for run in runs if not _is_name(run)) >= _MIN_MADE_CHARS


def _is_name(run: str) -> bool:
    """Returns whether a run is half of words, a number, short, or of few distinct characters."""
    words = [word for word in words_of(run) if len(word) > 3 and word.isalpha() and is_word(word)]
    short = len(run) <= _NAME_CHARS or len(set(run)) < 4
    return run.isdigit() or short or sum(map(len, words)) * 2 >= len(run)


IN_TEXT = (
    _Form(("@", "%40"), re.compile(_USERINFO), f"{MARK}@"),
    _Form(
        ("PRIVATE KEY",),
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:(?:[\w+/=\s\\:,.()]|-(?!----)){0,20000}+"
            r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            # Without an end: the following lines of base64 or headers.
            rf"|(?:{_LINE_END}(?:[A-Z][A-Za-z-]+: [^\n\\\"]{{0,80}}|{_BASE64_LINE})){{0,400}}"
            rf"(?:{_LINE_END}-----END[A-Z0-9 ]{{0,60}}-{{0,5}})?)"
        ),
    ),
    _Form((), re.compile(rf"\b{_FIRST}(?<!-)(?P<before>){_TOKEN}"), _token_hidden),
    _Form(
        ("\\n", "\\r", "\\t", "\\u00", "%", "\x1b["),
        re.compile(rf"(?P<before>{_ESCAPE}){_FIRST}{_TOKEN}"),
        _token_hidden,
    ),
    _Form((":AA",), re.compile(r"(?<!\d)\d{8,10}:AA[\w-]{32,35}")),  # Telegram
    _Form(
        ("hooks.slack.com/", "/api/webhooks/"),
        re.compile(r"(hooks\.slack\.com/\w+/|discord(?:app)?\.com/api/webhooks/)[\w/-]+"),
        rf"\g<1>{MARK}",
    ),
    _Form(
        ("uthorization", "UTHORIZATION"),
        # Anything behind a known scheme is a secret, unless it is prose.
        re.compile(
            rf"((?i:authorization){_IS}(?i:bearer|basic|token|bot|api-?key)\s+"
            r"(?:token=)?+[\\\"']{0,2}+)(?![a-z]+ [a-z])[\w.~+/=-]{6,}"
        ),
        rf"\g<1>{MARK}",
    ),
    _Form(
        ("uthorization", "UTHORIZATION"),
        re.compile(rf"((?i:authorization){_IS})((?:[\w.~+/=-]{{1,200}}\s+)?[\w.~+/=-]{{12,}})"),
        _made_hidden,
    ),
    _Form(
        ("earer", "EARER"),
        re.compile(r"\b((?i:bearer)(?:\s+|%20))([\w.~+/=-]{16,})"),
        _made_hidden,
    ),
    _Form(
        ("key", "KEY", "Key", "oken", "OKEN", "ecret", "ECRET"),
        re.compile(
            r"([kKtTsS](?=ey|EY|oken|OKEN|ecret|ECRET)"  # single letters, for speed
            rf"(?i:{_OF_SECRET})[a-zA-Z]{{2,5}}{_IS})"
            rf"(?!{_UUID})([\w.~+/=-]{{16,}})"
        ),
        _made_hidden,
    ),
)
