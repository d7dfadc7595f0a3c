"""Mapping an endpoint's errors to `Fault`: of the connection, the HTTP status or in the answer.

An error object in a body with status 200, in a chunk or inside a choice is treated as if its code
were the HTTP status: the request was rejected, and is not billed unless usage is reported.
"""

import re
from collections.abc import Mapping

from openai import APIConnectionError, APIError, APIStatusError

from orchestra_ray.core.faults import Fault, FaultKind
from orchestra_ray.tracking.redact import Redactor
from orchestra_ray.workers.tools.endpoint.http_client import (
    retry_after_s,
    server_message,
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
    """The endpoint rejects a question that does not fit into the model's context."""


def fault_of(error: APIError, redactor: Redactor) -> Fault:
    """Converts an error of the SDK to a fault."""
    if isinstance(error, APIConnectionError):
        cause = error.__cause__ or error
        text = f"the connection failed: {type(cause).__name__}"
        return Fault(FaultKind.CONNECTION, text, sent=was_sent(cause))
    if not isinstance(error, APIStatusError):  # reported inside a stream
        return reported_fault(error.body, redactor)
    wait_s = retry_after_s(error.response.headers)
    return _fault(error.body, error.status_code, redactor, wait_s)


def reported_fault(error: object, redactor: Redactor) -> Fault:
    """Converts an error object or text in an answer to a fault."""
    return _fault(error, error_status(error), redactor)


def _fault(error: object, status: int, redactor: Redactor, wait_s: float | None = None) -> Fault:
    code = error.get("code") if isinstance(error, Mapping) else None
    kind = status_kind(status)
    if code == "insufficient_quota":  # sent with status 429, but waiting does not help
        kind = FaultKind.DENIED
    line = redactor.text(server_message(error))[:MESSAGE_CHARACTERS]
    is_too_long = kind is FaultKind.REJECTED and _TOO_LONG.search(f"{code} {line}")
    made = TooLong if is_too_long else Fault
    return made(kind, f"{status}: {line}", retry_after_s=wait_s)


def error_status(error: object) -> int:
    """Returns the HTTP status equivalent to an error in a body or stream, from its code or type.

    Without either, 500, since a retry may succeed.
    """
    fields = error if isinstance(error, Mapping) else {"code": error}
    values = [fields.get(name) for name in _STATUS_FIELDS]
    for value in values:
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if isinstance(number, int) and 400 <= number <= 599:
            return number
    words = " ".join(value for value in values if isinstance(value, str)).lower().replace(" ", "_")
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
