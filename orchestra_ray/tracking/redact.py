"""Removes secrets from all output and from the input of the policy.

`tracking.secrets` decides what is a secret, by name and by value. The texts of the tracker, logs,
cassettes, tool results, the report and the command line pass through a `Redactor`, which reads the
environment once, when it is created.
"""

import logging
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from enum import Enum
from typing import Any, TextIO

from orchestra_ray.tracking.secret_forms import IN_TEXT, MARK
from orchestra_ray.tracking.secrets import forms_of, longest_first, secrets_in


@dataclass(frozen=True, slots=True)
class Redactor:
    """Replaces every secret by `MARK`. pattern: matches any of the `known` secrets; None: none."""

    pattern: re.Pattern[str] | None
    known: tuple[str, ...] = ()

    @staticmethod
    def of(environ: Mapping[str, str] = os.environ, known: Iterable[str] = ()) -> "Redactor":
        """Returns the redactor of the secrets in `environ` and of the `known` ones.

        It also hides their parts, such as lines, and their percent-encoded and base64 forms.
        """
        forms = [form for secret in known for form in forms_of(secret)]
        secrets = longest_first([*secrets_in(environ), *forms])
        pattern = re.compile("|".join(map(re.escape, secrets))) if secrets else None
        return Redactor(pattern, tuple(secrets))

    def text(self, text: str) -> str:
        # Most texts contain none, and searching for each is far faster than the pattern.
        if self.pattern is not None and any(secret in text for secret in self.known):
            text = self.pattern.sub(MARK, text)
        for form in IN_TEXT:
            text = form.hide(text)
        return text

    def clean(self, value: Any) -> Any:
        """Returns `value` as plain JSON without secrets, in keys too.

        NumPy scalars become numbers, enums their values, numbers that JSON lacks the strings
        "NaN", "Infinity" and "-Infinity" (which `float` parses), and anything else its `str`.
        """
        if isinstance(value, Enum):
            return self.clean(value.value)
        if type(value).__module__ == "numpy" and value.ndim == 0:  # importing numpy is slow
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
    """Formats like `inner`, tracebacks included, and redacts the result."""

    def __init__(self, inner: logging.Formatter, redactor: Redactor):
        super().__init__()
        self.inner = inner
        self.redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self.redactor.text(self.inner.format(record))


def protect_logs(redactor: Redactor) -> None:
    """Makes every log handler of this process redact what it writes.

    Handlers added later are not covered; a second call replaces the redactor of the first.
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


class _RedactedStream:
    """Writes texts to `inner` without secrets."""

    def __init__(self, inner: TextIO, redactor: Redactor):
        self._inner, self._redactor = inner, redactor

    def write(self, text: str) -> int:
        self._inner.write(self._redactor.text(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@contextmanager
def hidden_output(redactor: Redactor) -> Iterator[None]:
    """Redacts the standard output and error of this process, each written text by itself."""
    out: Any = _RedactedStream(sys.stdout, redactor)
    errors: Any = _RedactedStream(sys.stderr, redactor)
    with redirect_stdout(out), redirect_stderr(errors):
        yield
