r"""Decides what is a secret, by name and by value.

By name: the words of a name (`OPENAI_API_KEY`, `DB_PASS`, `accessToken`, `SENTRY_DSN`) mark its
value, unless the name ends in a property of a secret (`..._MODE`, `..._FILE`, `..._SOCK`). Values
shorter than `MIN_SECRET_CHARS` are no secrets: hiding flags and counts would garble every text.

By value, under any name: one of `secret_forms`, an assignment of a secret (`Server=h;Password=...`,
`{"token": "..."}`), a user with a password before a host, and a value that is random according to
`randomness`. Ids of machines and jobs, and hashes under a name that says so (`GIT_COMMIT`,
`CI_COMMIT_SHA`), are no secrets: a run's page must be able to name its commit.
"""

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus, unquote

from orchestra_ray.tracking.randomness import is_random, is_word
from orchestra_ray.tracking.secret_forms import IN_TEXT, MARK
from orchestra_ray.tracking.secret_names import (
    FLAGS,
    HASH_WORDS,
    ORDINARY,
    PATH,
    names_secret,
    words_of,
)

MIN_SECRET_CHARS = 6

_URL_PARTS = re.compile(r"([a-z+]*)://([^\s/@:\"'<>`]*):?([^\s\"'<>`]*)@")
# A user with a password before a host, without a scheme.
_LOGIN_AT = re.compile(r"[^\s:/@]+:([^\s@/]+)@(?!sha256:)[\w.\[\]:-]+(?:/\S*)?")
_LOGIN = re.compile(r"[^\s:/@=;,]+:([^\s@/]+)")
_ASSIGNED = re.compile(
    r"""(?<!\w)([A-Za-z_][\w.-]{0,80})["']?\s{0,9}([=:])(?!//)(?=\s{0,9}["']?([^\s"';,&}]{6,}))"""
)
_AFTER_SCHEME = re.compile(r"(?i)\b(?:bearer|basic|token)\s+([^\s\"',;]{6,})")
_OPTION = re.compile(r"(-{0,2}[A-Za-z][\w.-]*)(?:=|:\s+)(.+)", re.S)
_QUERY = re.compile(r"(?i)([?&][\w-]*(?:key|token|secret|password|sig|signature|auth)=)[^&#\s]+")
# A colon that is not followed by a port or a scheme's slashes, and is in no IPv6 address.
_NO_PORT = re.compile(r"(?s)(?<![\[:0-9a-f])[^\s/:\[\]?#]*:(?!\d{1,5}(?:[/?#]|$)|/|$).*")


def is_secret(name: str, value: str) -> bool:
    """Returns whether the value of a variable, a setting or an option must be hidden."""
    value = value.strip()
    if len(value) < MIN_SECRET_CHARS or value.lower() in FLAGS:
        return False
    return (
        names_secret(name, value)
        or any(form.hide(value) != value for form in IN_TEXT)
        or _QUERY.search(value) is not None
        or _LOGIN_AT.fullmatch(value) is not None
        or next(_assigned_in(value), None) is not None
        or (HASH_WORDS.isdisjoint(words_of(name)) and is_random(value))
    )


def _assigned_in(value: str) -> Iterator[str]:
    """Yields the secrets that a value assigns, as in a connection string or a line of shell.

    In prose a word can follow a colon, so a plain word counts only behind `=`, and only if the name
    is that of a variable or a password.
    """
    for name, sign, text in _ASSIGNED.findall(value):
        explicit = sign == "=" and (name.isupper() or "pass" in name.lower())
        plain = ORDINARY.fullmatch(text) is not None
        if text.lower() not in FLAGS and names_secret(name, text) and (explicit or not plain):
            yield text


def secrets_in(environ: Mapping[str, str]) -> Iterator[str]:
    """Yields every text that reveals a secret of `environ`."""
    for name, value in environ.items():
        if is_secret(name, value):
            yield from forms_of(value, fields="HEADER" in name.upper() or "COOKIE" in name.upper())


def forms_of(secret: str, fields: bool = False) -> Iterator[str]:
    """Yields the texts in which a secret can appear: its parts, and their encodings.

    fields: the secret is a list of `name: value` or `name=value`, whose values are parts.
    """
    parts = {secret, *secret.splitlines(), *secret.split("\\n"), *_assigned_in(secret)}
    parts |= {*_AFTER_SCHEME.findall(secret)}
    for login in filter(None, (_LOGIN_AT.fullmatch(secret), _LOGIN.fullmatch(secret))):
        parts.add(login[1])
    for field in re.split(r"[\n,;]", secret) if fields else ():
        value = re.split(r"[:=]", field, maxsplit=1)[-1].strip()
        parts |= set() if ORDINARY.fullmatch(value) else {value}
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
        for shift, first in enumerate((0, 2, 3)):  # within a longer text, such as user:secret
            encoded = encode(b"\0" * shift + raw).decode()
            core = encoded[first : (shift + len(raw)) * 8 // 6]
            if len(core) >= 8:
                yield core


def configured_secrets(settings: Any, environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yields the secrets in an entry's settings, and the values of variables that these name.

    A variable that the settings send or pass on is a secret under any name.
    """
    yield from _configured("", settings, environ)


def _configured(name: str, value: Any, environ: Mapping[str, str]) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _configured(str(key), inner, environ)
    elif isinstance(value, list | tuple) and name == "env_from":
        for variable in map(str, value):
            passed = environ.get(variable, "")
            if is_secret(variable, passed) or not _is_plain(passed):
                yield passed
    elif isinstance(value, list | tuple):
        before = ""
        for inner in value:
            assigned = _OPTION.fullmatch(str(inner))
            if assigned and not isinstance(inner, Mapping | list | tuple):
                yield from _configured(assigned[1].lstrip("-"), assigned[2], environ)
            yield from _configured(before or name, inner, environ)
            tokens = _AFTER_SCHEME.findall(str(inner))
            yield from (token for token in tokens if not ORDINARY.fullmatch(token))
            option = str(inner).startswith("-") and not assigned
            before = str(inner).lstrip("-") if option else ""
    elif isinstance(value, str):
        if name.endswith("_env"):
            yield environ.get(value, "")
        elif is_secret(name, value):
            yield value


def _is_plain(value: str) -> bool:
    """Returns whether hiding the value would garble texts: a flag, word, small number or path."""
    return (
        value.lower() in FLAGS
        or (value.isalpha() and is_word(value))
        or re.fullmatch(r"[\d.,:_-]{1,10}", value) is not None
        or PATH.fullmatch(value) is not None
    )


def hide_url(url: str) -> str:
    """Returns a URL, possibly malformed, without user, password and keys.

    A colon that no port follows hides the rest of the text.
    """
    scheme, mark, rest = url.rpartition("://") if "://" in url else ("", "", url)
    *before, host = re.split("@|%40", rest)
    host = _NO_PORT.sub(MARK, host)
    hidden = f"{scheme}{mark}{MARK}@{host}" if before else f"{scheme}{mark}{host}"
    return _QUERY.sub(rf"\g<1>{MARK}", hidden)


def longest_first(secrets: Iterable[str]) -> list[str]:
    """Returns the distinct secrets; a prefix of another secret must not be replaced before it."""
    long_enough = {secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS}
    return sorted(long_enough, key=lambda secret: (-len(secret), secret))
