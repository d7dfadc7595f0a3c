"""Keeps secrets out of everything that is written, and out of what a policy reads.

What counts as one is decided in `tracking.secrets`, by name and by value. Whatever leaves through
the tracker, the log, a cassette, the result of a tool, the report or the command line passes a
`Redactor` first. The environment is read once, when the redactor is made.
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
    """Replaces every secret by `MARK`. `pattern` matches any of the `known` ones; None: no such."""

    pattern: re.Pattern[str] | None
    known: tuple[str, ...] = ()

    @staticmethod
    def of(environ: Mapping[str, str] = os.environ, known: Iterable[str] = ()) -> "Redactor":
        """The redactor of the secrets in `environ`, and of others that are `known`.

        Each is hidden in its parts too, such as its lines, and percent-encoded or in base64.
        """
        forms = [form for secret in known for form in forms_of(secret)]
        secrets = longest_first([*secrets_in(environ), *forms])
        pattern = re.compile("|".join(map(re.escape, secrets))) if secrets else None
        return Redactor(pattern, tuple(secrets))

    def text(self, text: str) -> str:
        # To look for each is faster by far than the pattern, and most texts hold none.
        if self.pattern is not None and any(secret in text for secret in self.known):
            text = self.pattern.sub(MARK, text)
        for form in IN_TEXT:
            text = form.hide(text)
        return text

    def clean(self, value: Any) -> Any:
        """`value` as plain JSON without secrets; keys are redacted too.

        NumPy scalars become numbers, enums their values, numbers that JSON lacks the strings
        "NaN", "Infinity" and "-Infinity" (which `float` reads), and anything else its `str`.
        """
        if isinstance(value, Enum):
            return self.clean(value.value)
        if type(value).__module__ == "numpy" and value.ndim == 0:  # its import takes a moment
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


class _RedactedStream:
    """Writes to `inner` what is left of each text that is written."""

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
    """Standard output and standard error of this process without secrets, by the text written."""
    out: Any = _RedactedStream(sys.stdout, redactor)
    errors: Any = _RedactedStream(sys.stderr, redactor)
    with redirect_stdout(out), redirect_stderr(errors):
        yield
