"""The forms of secrets that are secret wherever they stand, whatever the environment holds.

The tokens of known providers, JWTs, private keys, URLs with a password, and what follows an
`Authorization`. The cost of a text is linear: each repetition has a bound.
"""

import re
from dataclasses import dataclass

MARK = "[redacted]"

_TOKENS = (
    r"sk-(?=[A-Za-z_-]*\d)[\w-]{16,}",  # OpenAI, Anthropic, OpenRouter
    r"[rs]k_(?:live|test)_\w{16,}|whsec_[\w+/=]{16,}",  # Stripe
    r"gh[opsru]_[A-Za-z0-9]{20,}|github_pat_\w{20,}",
    r"gl(?:pat|dt|rt|ptt|ft|soat|cbt|imt|agent)-[\w.-]{16,}",  # GitLab
    r"hf_[A-Za-z0-9]{20,}",
    r"xox[a-z][-.][\w.-]{10,}|xapp-[\w-]{10,}",  # Slack
    r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",  # AWS
    r"AIza[\w-]{30,}|ya29\.[\w-]{20,}",  # Google
    r"tvly-[\w-]{16,}|nvapi-[\w-]{20,}|gsk_[A-Za-z0-9]{20,}|xai-[A-Za-z0-9]{20,}",
    r"pplx-[A-Za-z0-9]{20,}|r8_[A-Za-z0-9]{20,}|wandb_v1_\w{20,}|dapi[a-f0-9]{32}",
    r"hv[sbr]\.[\w-]{20,}|lin_(?:api|oauth)_\w{20,}|pcsk_\w{20,}|tskey-[\w-]{16,}",
    r"dckr_(?:pat|oat)_[\w-]{20,}|sq0[a-z]{3}-[\w-]{20,}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{20,}",
    r"AGE-SECRET-KEY-1[A-Z0-9]{20,}|EAAC[A-Za-z0-9]{20,}|GOCSPX-[\w-]{16,}|ATATT3[\w=-]{20,}",
    r"gl(?:c|sa)_[\w+/=]{20,}|do[opr]_v1_[a-f0-9]{20,}|PMAK-[a-f0-9-]{20,}|rubygems_[a-f0-9]{20,}",
    r"figd_[\w-]{20,}|ntn_\w{20,}|sbp_[a-f0-9]{20,}|rpa_\w{20,}|jina_\w{20,}|fw_[A-Za-z0-9]{20,}",
    r"csk-[a-z0-9]{20,}|e2b_[a-f0-9]{20,}|phx_[A-Za-z0-9]{20,}|SK[a-f0-9]{32}|key-[a-f0-9]{32}",
    r"npm_[A-Za-z0-9]{30,}|pypi-[\w-]{32,}|SG\.[\w-]{16,}\.[\w-]{16,}|lsv2_[a-z]{2}_\w{20,}",
    r"eyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]{4,}){1,3}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.?",  # JWT, JWE
)
# The first look at each word costs most of all: by its first letter, and a length that few have.
_TOKEN = rf"\b(?=[AEGPScdefghjklnprstwxy][\w.+/=-]{{12}})(?<!-)(?:{'|'.join(_TOKENS)})"
# A password may hold what a URL may not: it goes up to the last @ before a space or a quote, and
# over a few spaces too. What a port or an address of version 6 stands before is none.
_USERINFO = (
    r"(?<=://)(?!\[[0-9a-fA-F:.]+\])(?:"
    r"[^\s/@:\"'<>`]{0,128}:(?!\d{1,5}[/?#])[^\s\"'<>`]{0,256}|[^\s/@:\"'<>`]{16,256}"
    r"|[^\s/@:\"'<>`]{0,128}:(?!\d{1,5}\b)[^\s\"'<>`][^\"'<>`\n@]{0,64}"
    r")(?:@(?!sha256:)|%40)"
)


_LINE_END = r"(?:\s|\\[nr])+"
_BASE64_LINE = r"(?=[A-Za-z0-9+/=]{16}|[A-Za-z+/]*[\d=])[A-Za-z0-9+/=]{1,100}(?=[\s\\\"']|$)"


@dataclass(frozen=True, slots=True)
class _Form:
    """A pattern of secrets; with `hints` it is searched for where one of them stands."""

    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    replacement: str = MARK

    def hide(self, text: str) -> str:
        if self.hints and not any(hint in text for hint in self.hints):
            return text
        return self.pattern.sub(self.replacement, text)


IN_TEXT = (
    _Form(("@", "%40"), re.compile(_USERINFO), f"{MARK}@"),
    _Form(
        ("PRIVATE KEY",),
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:(?:[\w+/=\s\\:,.()]|-(?!----)){0,20000}+"
            r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
            # Without an end: the lines that follow and are nothing but base64 or a header.
            rf"|(?:{_LINE_END}(?:[A-Z][A-Za-z-]+: [^\n\\\"]{{0,80}}|{_BASE64_LINE})){{0,400}}"
            rf"(?:{_LINE_END}-----END[A-Z0-9 ]{{0,60}}-{{0,5}})?)"
        ),
    ),
    _Form((), re.compile(_TOKEN)),
    _Form((":AA",), re.compile(r"\b\d{8,10}:AA[\w-]{32,35}")),  # Telegram
    _Form(
        ("hooks.slack.com/", "/api/webhooks/"),
        re.compile(r"(hooks\.slack\.com/\w+/|discord(?:app)?\.com/api/webhooks/)[\w/-]+"),
        rf"\g<1>{MARK}",
    ),
    _Form(
        ("uthorization", "UTHORIZATION"),
        re.compile(r"(authorization[\"']?\s*[:=]\s*[\"']?\w+\s+)[\w.~+/=-]{6,}", re.I),
        rf"\g<1>{MARK}",
    ),
    _Form(
        ("earer", "EARER"),
        # Long, and with a digit: "bearer certificates" is prose.
        re.compile(r"\b(bearer\s+)(?=[a-z._~+/=-]*[0-9])[\w.~+/=-]{16,}", re.I),
        rf"\g<1>{MARK}",
    ),
)
