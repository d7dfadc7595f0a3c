"""Keeps secrets out of everything that is written.

A secret is the value of an environment variable whose name looks like one (`OPENAI_API_KEY`,
`HF_TOKEN`, `DB_PASSWORD`); `TOKENIZERS_PARALLELISM` is none. Whatever leaves through the tracker or
the log passes a `Redactor` first. The environment is read once, when the redactor is made.
"""

import logging
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

MARK = "[redacted]"
MIN_SECRET_CHARS = 6  # shorter values are flags and counts; hiding them would garble every text
_SECRET_NAME = re.compile(r"SECRET|PASSWORD|PASSWD|(KEY|TOKEN|CREDENTIAL)S?(?![A-Z])", re.I)


@dataclass(frozen=True, slots=True)
class Redactor:
    """Replaces every secret by `MARK`. `pattern` matches any of them; None: there are none."""

    pattern: re.Pattern[str] | None

    @staticmethod
    def of(environ: Mapping[str, str] = os.environ) -> "Redactor":
        """The redactor of the secrets in `environ`, and of the lines of those of many lines."""
        values = [value for name, value in environ.items() if _SECRET_NAME.search(name)]
        parts = {part.strip() for value in values for part in (value, *value.splitlines())}
        secrets = [part for part in parts if len(part) >= MIN_SECRET_CHARS]
        # Longest first: a secret that begins another must not leave the other's end behind.
        longest_first = sorted(secrets, key=len, reverse=True)
        return Redactor(re.compile("|".join(map(re.escape, longest_first))) if secrets else None)

    def text(self, text: str) -> str:
        return text if self.pattern is None else self.pattern.sub(MARK, text)

    def clean(self, value: Any) -> Any:
        """`value` as plain JSON without secrets; keys are redacted too.

        NumPy scalars become numbers, enums their values, numbers that JSON lacks the strings
        "NaN", "Infinity" and "-Infinity" (which `float` reads), and anything else its `str`.
        """
        if isinstance(value, Enum):
            return self.clean(value.value)
        if isinstance(value, np.generic):
            return self.clean(value.item())
        if isinstance(value, float):
            return value if math.isfinite(value) else _NOT_FINITE[str(value)]
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.clean(item) for key, item in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, str | bytes):
            return [self.clean(item) for item in value]
        return self.text(str(value))


_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class RedactingFormatter(logging.Formatter):
    """Formats as `inner` does, tracebacks included, and redacts the result."""

    def __init__(self, inner: logging.Formatter, redactor: Redactor):
        super().__init__()
        self.inner = inner
        self.redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self.redactor.text(self.inner.format(record))


def protect_logs(redactor: Redactor) -> None:
    """Makes every log handler of this process redact what it writes.

    Handlers that are added later are not covered; a second call replaces the first's redactor.
    """
    named = logging.Logger.manager.loggerDict.values()
    loggers = [one for one in (logging.getLogger(), *named) if isinstance(one, logging.Logger)]
    handlers = {handler for logger in loggers for handler in logger.handlers}
    if logging.lastResort is not None:
        handlers.add(logging.lastResort)
    for handler in handlers:
        inner = handler.formatter or logging.Formatter()
        if isinstance(inner, RedactingFormatter):
            inner = inner.inner
        handler.setFormatter(RedactingFormatter(inner, redactor))
