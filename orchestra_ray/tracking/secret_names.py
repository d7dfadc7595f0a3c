"""Decides by the name of a value whether it is a secret."""

import re

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_PASSWORD_WORD = re.compile(r".*(?:SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL).*|SSHPASS|PGPASS")
_SECRET_WORD = re.compile(
    r".*(?:TOKEN|APIKEY|PRIVATEKEY)S?|(?!(?:MON|TUR|HOC|JOC|DON|WHIS|HOT|PUB|PUBLIC)KEY).*KEYS?|DSN"
    r"|COOKIES?|JWT|BEARER|CREDS?|AUTHORIZATION"
)
_SHORT_FOR_PASSWORD = {"PASS", "PWD", "PW"}
_MAY_BE_SECRET = {"AUTH", "OAUTH", "SESSION", "CONN", "SAS", "PAT", "HEADERS"} | {
    "SIG",
    "SIGNATURE",
}  # as the last word
_WHOLE_NAME = re.compile(
    r"(?:.*_)?(?:DATABASE|DB)_UR[IL]|.*CONN(?:ECTION)?_?STR(?:ING)?|(?:.*_)?CONN_.*|.*WEBHOOK.*"
    r"|(?:.*_)?(?:BASIC|PROXY|HTTP)_?AUTH"
)
_DESCRIBES = set(
    "MODE TYPE KIND FILE PATH DIR FOLDER SOCK SOCKET NAME HOST PORT USER USERNAME METHOD TTL"
    " TIMEOUT EXPIRY EXPIRES LIFETIME LENGTH SIZE LIMIT COUNT ENV VAR FIELD HEADER ALGORITHM ALG"
    " ENABLED DISABLED VERSION FORMAT PREFIX PROVIDER SCOPE SCOPES REGION PARALLELISM LAYOUT URL"
    " URI ENDPOINT DOMAIN INFO PID".split()
)
_NO_SECRETS = {"PWD", "OLDPWD"}
FLAGS = {"default", "disabled", "enabled", "optional", "required", "unlimited"}
# Beside such a word a number is a count, or an id or number of a model's tokens.
_COUNTS = set("TOKENS KEYS MAX MIN NUM COUNT LIMIT BUDGET TOTAL PER ID IDS INDEX".split())
_USERS = {"USER", "U", "ACCOUNT"}
_LOGINS = {"LOGIN", "USERPWD", "USERPASS", "AUTH"} | _USERS
_LOGIN = re.compile(r"[^\s:/]+:(?!\d{1,5}$)[^\s/]{4,}")
HASH_WORDS = set(
    "COMMIT SHA HASH DIGEST REVISION REV REF CHECKSUM MD FINGERPRINT ID IDS UUID GUID VERSION TAG"
    " IMAGE BUILD TREE TRACE TRACEPARENT SPAN".split()
)
PATH = re.compile(r"(?:~|\.{1,2})?/[^\s=?&+]*")
ORDINARY = re.compile(r"[A-Za-z]+(?:[,:/._@ -]+[A-Za-z]+)*|[\d.:, -]+")


def words_of(name: str) -> list[str]:
    """Returns the words of a name in any spelling (`A_B`, `a-b`, `aB`), in capitals."""
    return [word.upper() for word in _WORD.findall(name)]


def names_secret(name: str, value: str) -> bool:
    """Returns whether the name marks this value as a secret."""
    words = words_of(name)
    if name.upper() in _NO_SECRETS or not words:
        return False
    number, path = re.fullmatch(r"[\d.,_]+", value), PATH.fullmatch(value)
    if _WHOLE_NAME.fullmatch(name.upper()):
        return not (number or path)
    if words[-1] in _LOGINS and _LOGIN.fullmatch(value) and not value[0].isdigit():
        return words[-1] not in _USERS or not ORDINARY.fullmatch(value)  # jane:users
    while len(words) > 1 and words[-1].isdigit():
        words = words[:-1]
    if words[-1] in _DESCRIBES or words[-2:] in (["PUBLIC", "KEY"], ["PUBLIC", "KEYS"]):
        return False
    if any(_PASSWORD_WORD.fullmatch(word) for word in words):
        return True
    if not _SHORT_FOR_PASSWORD.isdisjoint(words):
        last = words[-1] in _SHORT_FOR_PASSWORD
        return not path and (last or not number)
    if any(_SECRET_WORD.fullmatch(word) for word in words):
        return not number or (value.isdigit() and _COUNTS.isdisjoint(words))
    return words[-1] in _MAY_BE_SECRET and not (number or path or ORDINARY.fullmatch(value))
