r"""What counts as a secret: one decision, by name and by value, for all that must hide them.

By name: the words of a name (`OPENAI_API_KEY`, `DB_PASS`, `accessToken`, `SENTRY_DSN`) say it; one
that ends in what describes a secret (`..._MODE`, `..._FILE`, `..._SOCK`) does not. A value of fewer
than `MIN_SECRET_CHARS` is none: flags and counts would garble every text.

By value, whatever the name: what has the form of a provider's token, a JWT, a private key or a URL
with a password, and a random run of letters and digits, 20 of mixed case or 32 of hexadecimal ones.
Not by value: paths, words, versions; UUIDs and other ids of machines and jobs, which those who see
the logs know anyway; hashes under a name that says so (`GIT_COMMIT`, `CI_COMMIT_SHA`), for a run's
page must be able to name its commit.

In a text, whatever the environment holds: `IN_TEXT` is what is secret wherever it stands.
"""

import base64
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, quote_plus, unquote

MIN_SECRET_CHARS = 6
MARK = "[redacted]"

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PASSWORD_WORD = re.compile(r".*(?:SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL).*|SSHPASS|PGPASS")
_SECRET_WORD = re.compile(
    r".*(?:TOKEN|APIKEY|PRIVATEKEY)S?|(?:ACCESS|PRIV|ENCRYPTION|SIGNING|MASTER|SSH)?KEYS?|DSN"
    r"|COOKIES?|JWT|BEARER|CREDS?|AUTHORIZATION"
)
_SHORT_FOR_PASSWORD = {"PASS", "PWD", "PW"}
_MAY_BE_SECRET = {"AUTH", "OAUTH", "SESSION", "CONN", "SAS", "PAT", "HEADERS"}  # as the last word
_WHOLE_NAME = re.compile(
    r"(?:.*_)?(?:DATABASE|DB)_UR[IL]|.*CONN(?:ECTION)?_?STR(?:ING)?|(?:.*_)?CONN_.*|.*WEBHOOK.*"
)
_DESCRIBES = set(
    "MODE TYPE KIND FILE PATH DIR FOLDER SOCK SOCKET NAME HOST PORT USER USERNAME METHOD TTL"
    " TIMEOUT EXPIRY EXPIRES LIFETIME LENGTH SIZE LIMIT COUNT ENV VAR FIELD HEADER ALGORITHM ALG"
    " ENABLED DISABLED VERSION FORMAT PREFIX PROVIDER SCOPE SCOPES REGION PARALLELISM LAYOUT URL"
    " URI ENDPOINT DOMAIN INFO PID".split()
)
_NO_SECRETS = {"PWD", "OLDPWD"}
_FLAGS = {"default", "disabled", "enabled", "optional", "required", "unlimited"}
_HASH_WORDS = set(
    "COMMIT SHA HASH DIGEST REVISION REV REF CHECKSUM MD FINGERPRINT ID IDS UUID GUID VERSION TAG"
    " IMAGE BUILD TREE".split()
)
_PATH = re.compile(r"(?:~|\.{1,2})?/[^\s=?&+]*")
_ORDINARY = re.compile(r"[A-Za-z]+(?:[,:/._@ -]+[A-Za-z]+)*|[\d.:, -]+")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_TOKENS = (
    r"sk-(?=[A-Za-z_-]*\d)[\w-]{16,}",  # OpenAI, Anthropic, OpenRouter
    r"[rs]k_(?:live|test)_\w{16,}|whsec_[\w+/=]{16,}",  # Stripe
    r"gh[opsru]_[A-Za-z0-9]{20,}|github_pat_\w{20,}",
    r"gl(?:pat|dt|rt|ptt|ft|soat|cbt|imt|agent)-[\w.-]{16,}",  # GitLab
    r"hf_[A-Za-z0-9]{20,}",
    r"xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}",  # Slack
    r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])",  # AWS
    r"AIza[\w-]{30,}|ya29\.[\w-]{20,}",  # Google
    r"tvly-[\w-]{16,}|nvapi-[\w-]{20,}|gsk_[A-Za-z0-9]{20,}|xai-[A-Za-z0-9]{20,}",
    r"pplx-[A-Za-z0-9]{20,}|r8_[A-Za-z0-9]{20,}|wandb_v1_\w{20,}|dapi[a-f0-9]{32}",
    r"npm_[A-Za-z0-9]{30,}|pypi-[\w-]{32,}|SG\.[\w-]{16,}\.[\w-]{16,}|lsv2_[a-z]{2}_\w{20,}",
    r"eyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]{4,}){1,3}|eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.?",  # JWT, JWE
)
# The first look at each word costs most of all: by its first letter, and a length that few have.
_TOKEN = rf"\b(?=[ASdeghlnprstwxy][\w.+/=-]{{12}})(?<!-)(?:{'|'.join(_TOKENS)})"
# A password may hold what a URL may not: it goes up to the last @ before a space or a quote, and
# over a few spaces too. What a port or an address of version 6 stands before is none.
_USERINFO = (
    r"(?<=://)(?!\[[0-9a-fA-F:.]+\])(?:"
    r"[^\s/@:\"'<>`]{0,128}:(?!\d{1,5}[/?#])[^\s\"'<>`]{0,256}|[^\s/@:\"'<>`]{16,256}"
    r"|[^\s/@:\"'<>`]{0,128}:(?!\d{1,5}\b)[^\s\"'<>`][^\"'<>`\n@]{0,64}"
    r")@(?!sha256:)"
)


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
    _Form(("@",), re.compile(_USERINFO), f"{MARK}@"),
    _Form(
        ("PRIVATE KEY",),
        re.compile(
            r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----"
            r"(?:[\s\S]*?-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|[\s\S]*)"
        ),
    ),
    _Form((), re.compile(_TOKEN)),
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
_URL_PARTS = re.compile(r"([a-z+]*)://([^\s/@:\"'<>`]*):?([^\s\"'<>`]*)@")
_INNER = re.compile(r"(?i)(?:password|passwd|pwd|secret|token|key|sig|auth\w*)=([^\s;&,]+)")
_QUERY = re.compile(r"(?i)([?&][\w-]*(?:key|token|secret|password|sig|signature|auth)=)[^&#\s]+")


def is_secret(name: str, value: str) -> bool:
    """Whether `value` under this name, of a variable, a setting or an option, must be hidden."""
    value = value.strip()
    if len(value) < MIN_SECRET_CHARS or value.lower() in _FLAGS:
        return False
    words = [word.upper() for word in _WORD.findall(name)]
    return (
        _is_named_secret(name, words, value)
        or any(form.hide(value) != value for form in IN_TEXT)
        or _QUERY.search(value) is not None
        or (_HASH_WORDS.isdisjoint(words) and _is_random(value))
    )


def _is_named_secret(name: str, words: list[str], value: str) -> bool:
    if name.upper() in _NO_SECRETS:
        return False
    number = re.fullmatch(r"[\d.,_]+", value)
    if _WHOLE_NAME.fullmatch(name.upper()):
        return not (number or _PATH.fullmatch(value))
    while words and words[-1].isdigit():
        words = words[:-1]
    if (
        not words
        or words[-1] in _DESCRIBES
        or words[-2:] in (["PUBLIC", "KEY"], ["PUBLIC", "KEYS"])
    ):
        return False
    if any(_PASSWORD_WORD.fullmatch(word) for word in words):
        return True
    if words[-1] in _SHORT_FOR_PASSWORD:
        return not _PATH.fullmatch(value)
    if any(_SECRET_WORD.fullmatch(word) for word in words):
        return not number  # MAX_TOKENS
    ordinary = number or _PATH.fullmatch(value) or _ORDINARY.fullmatch(value)
    return words[-1] in _MAY_BE_SECRET and not ordinary


def _is_random(value: str) -> bool:
    """Whether a value is one run that no person chose."""
    if not re.fullmatch(r"[\w+/=.~-]{20,}", value, re.ASCII):
        return False
    if _PATH.fullmatch(value) and value.count("/") > 1:  # base64 may begin with one
        return False
    if _UUID.fullmatch(value):
        return False
    base64_too = "+" in value or value.endswith("=")
    joined = re.sub(r"[+/=]" if base64_too else r"[+=]", "", value)
    if any(map(_is_random_run, re.findall(r"[A-Za-z0-9]{20,}", joined))):
        return True
    bare = re.sub(r"[^A-Za-z0-9]", "", value)
    return len(bare) >= 36 and _switches(bare) >= 8 and _entropy_bits(bare) >= 4.4


def _is_random_run(run: str) -> bool:
    if re.fullmatch(r"[0-9a-f]{32,}|[0-9A-F]{32,}", run):
        return _switches(run) >= 3
    if len(run) < 40 and re.search(r"[a-z]{7}", run):  # a word, as in Qwen3Next80BA3BInstruct
        return False
    mixed = run != run.lower() and run != run.upper()
    return _switches(run) >= (3 if mixed else 6) and len(run) >= (20 if mixed else 32)


def _switches(run: str) -> int:
    """How often letters and digits take turns."""
    return sum(a.isdigit() != b.isdigit() for a, b in zip(run, run[1:], strict=False))


def _entropy_bits(run: str) -> float:
    shares = [count / len(run) for count in Counter(run).values()]
    return -sum(share * math.log2(share) for share in shares)


def secrets_in(environ: Mapping[str, str]) -> Iterator[str]:
    """Every text that would give away a secret of `environ`."""
    for name, value in environ.items():
        if is_secret(name, value):
            yield from forms_of(value, fields="HEADER" in name.upper() or "COOKIE" in name.upper())


def forms_of(secret: str, fields: bool = False) -> Iterator[str]:
    """The texts in which a secret may come back: in part, and encoded.

    With `fields` it is a list of `name: value` or `name=value`, and values are parts of it.
    """
    parts = {secret, *secret.splitlines(), *secret.split("\\n"), *_INNER.findall(secret)}
    for field in re.split(r"[\n,;]", secret) if fields else ():
        value = re.split(r"[:=]", field, maxsplit=1)[-1].strip()
        parts |= set() if _ORDINARY.fullmatch(value) else {value}
    for scheme, user, password in _URL_PARTS.findall(secret):
        parts |= {f"{user}:{password}", unquote(f"{user}:{password}")}
        if password not in (scheme, user):  # postgres://postgres:postgres@localhost
            parts |= {password, unquote(password)}
    for part in {part.strip() for part in parts}:
        if len(part) >= MIN_SECRET_CHARS:
            yield from _encodings(part)


def _encodings(part: str) -> Iterator[str]:
    yield part
    yield json.dumps(part)[1:-1]
    for quoted in (quote(part, safe="", errors="replace"), quote_plus(part, errors="replace")):
        yield quoted
        yield re.sub(r"%..", lambda escape: escape[0].lower(), quoted)
    raw = part.encode("utf-8", "replace")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode().rstrip("=")
        for shift, first in enumerate(
            (0, 2, 3)
        ):  # in the middle of what is encoded, as user:secret
            encoded = encode(b"\0" * shift + raw).decode()
            core = encoded[first : (shift + len(raw)) * 8 // 6]
            if len(core) >= 8:
                yield core


def configured_secrets(settings: Any, environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """The secrets of an entry's settings, and the variables that they name to be sent or handed on.

    Those are secrets whatever they are called.
    """
    yield from _configured("", settings, environ)


def _configured(name: str, value: Any, environ: Mapping[str, str]) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _configured(str(key), inner, environ)
    elif isinstance(value, list | tuple):
        before = ""
        for inner in value:
            option, given, text = str(inner).partition("=")
            if name == "env_from":
                yield environ.get(str(inner), "")
            elif given and option.startswith("-"):
                yield from _configured(option, text, environ)
            else:
                yield from _configured(before or name, inner, environ)
            before = option if option.startswith("-") and not given else ""
    elif isinstance(value, str):
        if name.endswith("_env"):
            yield environ.get(value, "")
        elif is_secret(name, value):
            yield value


def hide_url(url: str) -> str:
    """A text that is meant as a URL, without user, password and keys, however wrong it is."""
    head, at, rest = url.rpartition("@")
    if at:
        scheme, mark, _ = head.partition("://")
        url = f"{scheme}{mark}{MARK}@{rest}" if mark else f"{MARK}@{rest}"
    return _QUERY.sub(rf"\g<1>{MARK}", url)


def longest_first(secrets: Iterable[str]) -> list[str]:
    """Without doubles: a secret that begins another must not leave the other's end behind."""
    long_enough = {secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS}
    return sorted(long_enough, key=lambda secret: (-len(secret), secret))
