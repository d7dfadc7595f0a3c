"""The `Fault` that an endpoint's error is: of the connection, of a status, or told in an answer.

An error object in a body of status 200, in a chunk, or inside a choice counts as if its code had
been the status: the request was turned away, and nothing is billed unless usage is told.
"""

import re
from collections.abc import Mapping

from openai import APIConnectionError, APIError, APIStatusError

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.tracking.redact import Redactor
from orchestra_ray.workers.tools.endpoint.http_client import (
    first_line,
    retry_after_s,
    status_kind,
    was_sent,
)

MESSAGE_CHARACTERS = 300
_TOO_LONG = re.compile(
    r"context[_ ](length|window|size)|maximum context|(prompt|input|request) is too long"
    r"|too many (input )?tokens|exceeds? .*\bcontext\b",
    re.IGNORECASE,
)


class TooLong(Fault):
    """The endpoint refuses a question because it does not fit into the context."""


def fault_of(error: APIError, redactor: Redactor) -> Fault:
    """The fault that an error of the SDK is."""
    if isinstance(error, APIConnectionError):
        cause = error.__cause__ or error
        text = f"the connection failed: {type(cause).__name__}"
        return Fault(FaultKind.CONNECTION, text, sent=was_sent(cause))
    if not isinstance(error, APIStatusError):  # in a stream
        return told_fault(error.body, redactor)
    wait_s = retry_after_s(error.response.headers)
    return _fault(error.body, error.status_code, redactor, wait_s)


def told_fault(error: object, redactor: Redactor) -> Fault:
    """The fault that an error object or text in an answer is."""
    return _fault(error, error_status(error), redactor)


def _fault(error: object, status: int, redactor: Redactor, wait_s: float | None = None) -> Fault:
    code = error.get("code") if isinstance(error, Mapping) else None
    kind = status_kind(status)
    if code == "insufficient_quota":  # a 429 that no waiting heals
        kind = FaultKind.DENIED
    line = redactor.text(first_line(error))[:MESSAGE_CHARACTERS]
    is_too_long = kind is FaultKind.REJECTED and _TOO_LONG.search(f"{code} {line}")
    made = TooLong if is_too_long else Fault
    return made(kind, f"{status}: {line}", retry_after_s=wait_s)


def error_status(error: object) -> int:
    """The HTTP status that an error in a body or a stream means, by its code, type or words.

    500 if it tells none: the server failed, and may not fail again.
    """
    fields = error if isinstance(error, Mapping) else {"code": error}
    told = [fields.get(name) for name in _STATUS_FIELDS]
    for value in told:
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if isinstance(number, int) and 400 <= number <= 599:
            return number
    words = " ".join(value for value in told if isinstance(value, str)).lower().replace(" ", "_")
    return next((status for word, status in _STATUS_OF_WORDS if word in words), 500)


_STATUS_FIELDS = ("code", "status", "status_code", "type")
_STATUS_OF_WORDS = (
    ("insufficient_quota", 402),
    ("insufficient_balance", 402),
    ("billing", 402),
    ("rate_limit", 429),
    ("too_many_requests", 429),
    ("throttl", 429),
    ("resource_exhausted", 429),
    ("overloaded", 503),
    ("unavailable", 503),
    ("timeout", 504),
    ("deadline_exceeded", 504),
    ("unauth", 401),
    ("authentication", 401),
    ("api_key", 401),
    ("permission", 403),
    ("forbidden", 403),
    ("not_found", 404),
    ("context_length", 400),
    ("invalid", 400),
    ("bad_request", 400),
    ("unsupported", 400),
    ("content_policy", 400),
    ("content_filter", 400),
)
