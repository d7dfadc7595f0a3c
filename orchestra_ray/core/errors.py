"""Exceptions whose single line is all that a user has to read, and that line of any exception."""


class ConfigError(Exception):
    """One line: what is wrong, where, and what to do. The command line exits with code 2."""


class ReportedError(Exception):
    """A run, or a part of it, ended for a reason in another process.

    One line with the reason and the path of the log; a traceback of this process adds nothing.
    """


def first_line(error: BaseException) -> str:
    """Returns the first line of the error's text that is not blank, else the name of its class."""
    lines = map(str.strip, str(error).splitlines())
    return next(filter(None, lines), type(error).__name__)
